/* The kernel for AVX-512 with products of bytes (VNNI) and with bytes gathered by a mask (VBMI2). */
#include "events_plan.h"

#if defined(__x86_64__)

#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,popcnt,avx512vnni,avx512vbmi2"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,popcnt,avx512vnni,avx512vbmi2,prefer-vector-width=512")
#endif

#include "events_avx512.h"

#define EXPANDS_64
inline_ uint32_t expand64(const struct ecc_bytes *table, uint64_t word, uint32_t first, uint32_t channels,
                          uint32_t row, uint32_t *list, uint32_t n)
{
    static const uint8_t all[64] __attribute__((aligned(64))) = {
        0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21,
        22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43,
        44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63,
    };
    (void)table, (void)channels;
    __m512i numbers = _mm512_maskz_compress_epi8(word, _mm512_load_si512(all));
    uint32_t count = (uint32_t)__builtin_popcountll(word), done = 0;
    do { /* sixteen at a time, nearly always once */
        __m512i places = _mm512_cvtepu8_epi32(_mm512_castsi512_si128(numbers));
        places = _mm512_add_epi32(_mm512_mullo_epi32(places, _mm512_set1_epi32((int)row)),
                                  _mm512_set1_epi32((int)(first * row)));
        _mm512_storeu_si512(list + n + done, places);
        numbers = _mm512_alignr_epi64(numbers, numbers, 2);
        done += 16;
    } while (done < count);
    return n + count;
}

#define CELLS 4
inline_ uwide_v dot(uwide_v sums, const void *weights, int32_t cells)
{
    return (uwide_v)_mm512_dpbusd_epi32((__m512i)sums, _mm512_set1_epi32(cells), _mm512_loadu_si512(weights));
}

#include "events_kernel.h"

const struct ecc_kernel ecc_kernel_avx512vnni = {LANES, CELLS, prepare, rows, silence, add};

#if defined(__clang__)
#pragma clang attribute pop
#endif

#endif
