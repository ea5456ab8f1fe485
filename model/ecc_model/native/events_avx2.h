/* What the kernel is made of where there is AVX2. */
#define VECTOR 32
#define FIRE 8
#include "events_vectors.h"

/* Appends the numbers of a mask's bits, times `row`, plus `first`. */
inline_ uint32_t expand16(const struct ecc_bytes *table, uint16_t mask, uint32_t first, uint32_t row, uint32_t *list,
                          uint32_t n)
{
    for (uint32_t byte = 0; byte < 2; byte++) {
        uint8_t b = (uint8_t)(mask >> 8 * byte);
        __m256i numbers = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)table->places[b]));
        __m256i places = _mm256_add_epi32(_mm256_mullo_epi32(numbers, _mm256_set1_epi32((int)row)),
                                          _mm256_set1_epi32((int)(first + 8 * byte * row)));
        _mm256_storeu_si256((__m256i *)(void *)(list + n), places);
        n += (uint32_t)__builtin_popcount(b);
    }
    return n;
}

inline_ sums_v read_half(const int8_t *row)
{
    return (sums_v)_mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)row));
}

inline_ wide_v widen_low(sums_v s)
{
    return (wide_v)_mm256_cvtepi16_epi32(_mm256_castsi256_si128((__m256i)s));
}

inline_ wide_v widen_high(sums_v s)
{
    return (wide_v)_mm256_cvtepi16_epi32(_mm256_extracti128_si256((__m256i)s, 1));
}

inline_ void spike(unsigned char *to, wide_v *u, const wide_v *limit)
{
    __m256i silent = _mm256_cmpgt_epi32((__m256i)*limit, (__m256i)*u);
    *to = (unsigned char)~_mm256_movemask_ps(_mm256_castsi256_ps(silent));
    *u = (wide_v)_mm256_and_si256((__m256i)*u, silent);
}
