/* The kernel for AVX2 with products of bytes (AVX-VNNI), which GCC 11 and Clang 19 can ask for. */
#include "events_plan.h"

#if defined(__x86_64__) && ECC_HAS_AVXVNNI

#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,avxvnni,popcnt"))), apply_to = function)
#else
#pragma GCC target("avx2,avxvnni,popcnt")
#endif

#include "events_avx2.h"

#define CELLS 4
inline_ uwide_v dot(uwide_v sums, const void *weights, int32_t cells)
{
    return (uwide_v)_mm256_dpbusd_avx_epi32((__m256i)sums, _mm256_set1_epi32(cells), _mm256_loadu_si256((const __m256i *)weights));
}

#include "events_kernel.h"

const struct ecc_kernel ecc_kernel_avxvnni = {LANES, CELLS, prepare, rows, silence, add};

#if defined(__clang__)
#pragma clang attribute pop
#endif

#endif
