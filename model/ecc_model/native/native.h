/* What the C library shares: how functions are exported, what they return, and the number of its interface.
 *
 * Rules for every exported function: it gets pointers and sizes, checks every size and index before use, allocates
 * nothing, keeps no state, and returns 0 or one of the negative numbers below. Nothing here knows Python: the library
 * is loaded by ecc_model/native.py, where each prototype stands once more.
 */
#ifndef ECC_NATIVE_H
#define ECC_NATIVE_H

#include <stddef.h>
#include <stdint.h>

/* Raised by one whenever an exported function changes its arguments or its meaning; native.py holds the same number. */
#define ECC_NATIVE_ABI 1

#define ECC_API __attribute__((visibility("default")))

enum {
    ECC_OK = 0,
    ECC_ARGUMENT = -1, /* a size, an index or a table entry out of its range */
    ECC_ROOM = -2      /* the output does not fit where it should go */
};

ECC_API int ecc_native_abi(void);

#endif
