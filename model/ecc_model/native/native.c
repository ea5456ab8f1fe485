/* The number by which native.py tells whether this library is the one it was written for. */
#include "native.h"

int ecc_native_abi(void) { return ECC_NATIVE_ABI; }
