/* The kernel for AVX-512 with products of bytes (VNNI). */
#include "events_plan.h"

#if defined(__x86_64__)

#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,popcnt,avx512vnni"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,popcnt,avx512vnni,prefer-vector-width=512")
#endif

#include "events_avx512.h"

#define CELLS 4
inline_ uwide_v dot(uwide_v sums, const void *weights, int32_t cells)
{
    return (uwide_v)_mm512_dpbusd_epi32((__m512i)sums, _mm512_set1_epi32(cells), _mm512_loadu_si512(weights));
}

#include "events_kernel.h"

const struct ecc_kernel ecc_kernel_avx512vnni = {LANES, CELLS, layer, silence, add};

#if defined(__clang__)
#pragma clang attribute pop
#endif

#endif
