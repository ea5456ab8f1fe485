/* Bits to the list of their numbers, a byte at a time, by the arena's table of all bytes. */
typedef uint8_t places_v __attribute__((vector_size(8), aligned(1), may_alias));
typedef uint32_t eight_v __attribute__((vector_size(32), aligned(4), may_alias));

inline_ uint32_t expand16(const struct ecc_bytes *table, uint16_t mask, uint32_t first, uint32_t row, uint32_t *list,
                          uint32_t n)
{
    for (uint32_t byte = 0; byte < 2; byte++) {
        uint8_t b = (uint8_t)(mask >> 8 * byte);
        places_v places = *(const places_v *)table->places[b];
        *(eight_v *)(list + n) = __builtin_convertvector(places, eight_v) * row + (first + 8 * byte * row);
        n += table->count[b];
    }
    return n;
}
