/* What the kernel is made of where there is AVX-512 (F, BW, DQ, VL). */
#define VECTOR 64
#define FIRE 16
#include "events_vectors.h"

/* Appends the numbers of a mask's bits, times `row`, plus `first`. */
inline_ uint32_t expand16(const struct ecc_bytes *table, uint16_t mask, uint32_t first, uint32_t row, uint32_t *list,
                          uint32_t n)
{
    (void)table;
    __m512i numbers = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    __m512i places = _mm512_add_epi32(_mm512_mullo_epi32(numbers, _mm512_set1_epi32((int)row)),
                                      _mm512_set1_epi32((int)first));
    _mm512_storeu_si512(list + n, _mm512_maskz_compress_epi32(mask, places));
    return n + (uint32_t)__builtin_popcount(mask);
}

inline_ sums_v read_half(const int8_t *row)
{
    return (sums_v)_mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)(const void *)row));
}

inline_ wide_v widen_low(sums_v s)
{
    return (wide_v)_mm512_cvtepi16_epi32(_mm512_castsi512_si256((__m512i)s));
}

inline_ wide_v widen_high(sums_v s)
{
    return (wide_v)_mm512_cvtepi16_epi32(_mm512_extracti64x4_epi64((__m512i)s, 1));
}

inline_ void spike(unsigned char *to, wide_v *u, const wide_v *limit)
{
    __mmask16 silent = _mm512_cmplt_epi32_mask((__m512i)*u, (__m512i)*limit);
    uint16_t spikes = (uint16_t)~silent;
    memcpy(to, &spikes, 2);
    *u = (wide_v)_mm512_maskz_mov_epi32(silent, (__m512i)*u);
}
