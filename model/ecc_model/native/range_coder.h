/* Binary range coder with fixed probabilities; model/ecc_model/rangecoder.py is its twin and says what the bytes mean.
 *
 * Bits are coded in the order first, first + 1, ..., last - 1; those before `first` are known to both sides. Bit i lies
 * in cell i, or in cell places[i] where places are given (strictly rising; cells between them hold zeros). Where its
 * probability stands in `table` is told by one of two rules:
 *
 *   tables   contexts[i] (or i), times 2 for each offset, plus the bit found that many cells before
 *   linear   the sum bias[i] + weights of all ones before it, counted from the middle of the table and clipped to it
 */
#ifndef ECC_RANGE_CODER_H
#define ECC_RANGE_CODER_H

#include "native.h"

struct ecc_rule {
    const uint16_t *table; /* probability of a one in 1/65536, 1 to 65535 */
    size_t table_size;
    size_t first, last;       /* the bits to code */
    size_t size;              /* all bits that the rule knows: contexts, places, bias are so many */
    size_t cells;             /* of the buffer that bits lie in */
    const uint16_t *contexts; /* may be NULL */
    const uint32_t *places;   /* may be NULL */
    const uint32_t *offsets;
    size_t offset_count;   /* at most 8 */
    const int16_t *bias;   /* NULL: not linear */
    const int8_t *weights; /* what bit j adds to j + 1, ..., size - 1, for j = 0, 1, ...: size (size - 1) / 2 */
    int32_t *sums;         /* room for `size` numbers */
};

/* Codes the bits in `cells`; their bytes go to `out`, how many to `length`. ECC_ROOM: more than `capacity`. */
ECC_API int ecc_range_encode(const struct ecc_rule *rule, const uint8_t *cells, uint8_t *out, size_t capacity,
                             size_t *length);

/* Reads the bits from `length` bytes into `cells`, where known bits stand already and zeros elsewhere. */
ECC_API int ecc_range_decode(const struct ecc_rule *rule, uint8_t *cells, const uint8_t *data, size_t length);

#endif
