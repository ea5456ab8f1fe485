/* Vector types of one build of the kernel, which has defined VECTOR (bytes) and FIRE (neurons updated at once). */
#include <string.h>

#define LANES (VECTOR / 2) /* sums of 16 bits in a vector */
#define UNIT VECTOR        /* channels whose weights fill a vector */
#define PARTS (4 * FIRE / VECTOR)
#define inline_ static inline __attribute__((always_inline))
#if defined(__clang__)
#define UNROLLED(n) _Pragma("clang loop unroll(full)") for (int k = 0; k < (n); k++)
#else
#define UNROLLED(n) _Pragma("GCC unroll 16") for (int k = 0; k < (n); k++)
#endif

typedef int16_t sums_v __attribute__((vector_size(VECTOR), may_alias));
typedef uint16_t wrapping_v __attribute__((vector_size(VECTOR), may_alias));
typedef int16_t row_v __attribute__((vector_size(VECTOR), aligned(1), may_alias));
typedef int32_t wide_v __attribute__((vector_size(VECTOR), aligned(4), may_alias));
typedef uint32_t uwide_v __attribute__((vector_size(VECTOR), aligned(4), may_alias));
typedef uint32_t list_v __attribute__((vector_size(64), aligned(4), may_alias));
