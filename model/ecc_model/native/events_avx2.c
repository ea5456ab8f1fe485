/* The kernel for AVX2. */
#include "events_plan.h"

#if defined(__x86_64__)

#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,popcnt"))), apply_to = function)
#else
#pragma GCC target("avx2,popcnt")
#endif

#include "events_avx2.h"

#define CELLS 2
inline_ uwide_v dot(uwide_v sums, const void *weights, int32_t cells)
{
    return sums + (uwide_v)_mm256_madd_epi16(_mm256_loadu_si256((const __m256i *)weights), _mm256_set1_epi32(cells));
}

#include "events_kernel.h"

const struct ecc_kernel ecc_kernel_avx2 = {LANES, CELLS, prepare, rows, silence, add};

#if defined(__clang__)
#pragma clang attribute pop
#endif

#endif
