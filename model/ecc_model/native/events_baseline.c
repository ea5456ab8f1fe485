/* The kernel for what every processor has: SSE2 on x86-64, NEON on aarch64, else plain C. */
#include "events_plan.h"

#define VECTOR 16
#define FIRE 8
#include "events_vectors.h"

#include "events_bytes.h"

#define CELLS 2

#if defined(__SSE2__)

#include <emmintrin.h>

inline_ sums_v read_half(const int8_t *row)
{
    __m128i bytes = _mm_loadl_epi64((const __m128i *)(const void *)row);
    return (sums_v)_mm_srai_epi16(_mm_unpacklo_epi8(bytes, bytes), 8); /* twice each, then the upper one, signed */
}

inline_ wide_v widen_low(sums_v s)
{
    return (wide_v)_mm_srai_epi32(_mm_unpacklo_epi16((__m128i)s, (__m128i)s), 16);
}

inline_ wide_v widen_high(sums_v s)
{
    return (wide_v)_mm_srai_epi32(_mm_unpackhi_epi16((__m128i)s, (__m128i)s), 16);
}

inline_ void spike(unsigned char *to, wide_v *u, const wide_v *limit)
{
    __m128i low = _mm_cmplt_epi32((__m128i)u[0], (__m128i)limit[0]);
    __m128i high = _mm_cmplt_epi32((__m128i)u[1], (__m128i)limit[1]);
    __m128i silent = _mm_packs_epi32(low, high);
    *to = (unsigned char)~_mm_movemask_epi8(_mm_packs_epi16(silent, silent));
    u[0] = (wide_v)_mm_and_si128((__m128i)u[0], low);
    u[1] = (wide_v)_mm_and_si128((__m128i)u[1], high);
}

inline_ uwide_v dot(uwide_v sums, const void *weights, int32_t cells)
{
    return sums + (uwide_v)_mm_madd_epi16(_mm_loadu_si128((const __m128i *)weights), _mm_set1_epi32(cells));
}

#elif defined(__aarch64__)

#include <arm_neon.h>

inline_ sums_v read_half(const int8_t *row)
{
    return (sums_v)vmovl_s8(vld1_s8(row));
}

inline_ wide_v widen_low(sums_v s)
{
    return (wide_v)vmovl_s16(vget_low_s16((int16x8_t)s));
}

inline_ wide_v widen_high(sums_v s)
{
    return (wide_v)vmovl_high_s16((int16x8_t)s);
}

inline_ void spike(unsigned char *to, wide_v *u, const wide_v *limit)
{
    const uint16x8_t bit = {1, 2, 4, 8, 16, 32, 64, 128};
    uint32x4_t low = vcgeq_s32((int32x4_t)u[0], (int32x4_t)limit[0]);
    uint32x4_t high = vcgeq_s32((int32x4_t)u[1], (int32x4_t)limit[1]);
    *to = (unsigned char)vaddvq_u16(vandq_u16(vcombine_u16(vmovn_u32(low), vmovn_u32(high)), bit));
    u[0] = (wide_v)vbicq_s32((int32x4_t)u[0], vreinterpretq_s32_u32(low));
    u[1] = (wide_v)vbicq_s32((int32x4_t)u[1], vreinterpretq_s32_u32(high));
}

inline_ uwide_v dot(uwide_v sums, const void *weights, int32_t cells)
{
    int16x8_t w = vld1q_s16(weights), p = vreinterpretq_s16_s32(vdupq_n_s32(cells));
    return sums + (uwide_v)vpaddq_s32(vmull_s16(vget_low_s16(w), vget_low_s16(p)), vmull_high_s16(w, p));
}

#else

inline_ sums_v read_half(const int8_t *row)
{
    sums_v s;
    for (int k = 0; k < LANES; k++)
        s[k] = row[k];
    return s;
}

inline_ wide_v widen_low(sums_v s)
{
    return (wide_v){s[0], s[1], s[2], s[3]};
}

inline_ wide_v widen_high(sums_v s)
{
    return (wide_v){s[4], s[5], s[6], s[7]};
}

inline_ void spike(unsigned char *to, wide_v *u, const wide_v *limit)
{
    unsigned spikes = 0;
    for (unsigned k = 0; k < 8; k++)
        if (u[k / 4][k % 4] >= limit[k / 4][k % 4]) {
            spikes |= 1u << k;
            u[k / 4][k % 4] = 0;
        }
    *to = (unsigned char)spikes;
}

inline_ uwide_v dot(uwide_v sums, const void *weights, int32_t cells)
{
    const int16_t *w = weights;
    for (int k = 0; k < 4; k++)
        sums[k] += (uint32_t)(w[2 * k] * (int16_t)cells + w[2 * k + 1] * (cells >> 16));
    return sums;
}

#endif

#include "events_kernel.h"

const struct ecc_kernel ecc_kernel_baseline = {LANES, CELLS, prepare, rows, silence, add};
