/* The kernel for AVX-512 (F, BW, DQ, VL). */
#include "events_plan.h"

#if defined(__x86_64__)

#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,popcnt"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,popcnt,prefer-vector-width=512")
#endif

#include "events_avx512.h"

#define CELLS 2
inline_ uwide_v dot(uwide_v sums, const void *weights, int32_t cells)
{
    return sums + (uwide_v)_mm512_madd_epi16(_mm512_loadu_si512(weights), _mm512_set1_epi32(cells));
}

#include "events_kernel.h"

const struct ecc_kernel ecc_kernel_avx512 = {LANES, CELLS, prepare, rows, silence, add};

#if defined(__clang__)
#pragma clang attribute pop
#endif

#endif
