/* Random rules, bits and bytes through the range coder, every buffer exactly as large as it is said to be.
 *
 * Built with sanitizers by `make test-native`; ends with an error at the first bit that does not come back, the first
 * second string for one message, and whatever a sanitizer finds.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "range_coder.h"

#define ROUNDS 60000
#define MAX_BITS 300

static uint64_t state = 88172645463325252u;

static uint32_t below(uint32_t end)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 32) % end;
}

static void expect(int held, const char *what, int round)
{
    if (!held) {
        fprintf(stderr, "round %d: %s\n", round, what);
        exit(1);
    }
}

static void *copy(const void *data, size_t size)
{
    void *exact = malloc(size ? size : 1);
    if (exact == NULL)
        exit(2);
    return size ? memcpy(exact, data, size) : exact;
}

/* A rule with arrays of its own; `wild`: its entries may be anything, and the coder must find out. */
static struct ecc_rule make_rule(int wild)
{
    static uint16_t table[4096], contexts[MAX_BITS];
    static uint32_t places[MAX_BITS], offsets[8];
    static int16_t bias[MAX_BITS];
    static int8_t weights[MAX_BITS * MAX_BITS / 2];
    struct ecc_rule rule = {0};
    uint32_t bits = 1 + below(MAX_BITS), groups = 1 + below(40), place = 50;
    rule.size = bits;
    rule.last = 1 + below(bits);
    rule.first = below(2) ? 0 : below((uint32_t)rule.last + 1);
    rule.offset_count = below(4);
    rule.table_size = (size_t)groups << rule.offset_count;
    for (uint32_t i = 0; i < rule.table_size; i++)
        table[i] = (uint16_t)(below(3) ? 1 + below(65535) : below(2) ? 1 : 65535);
    for (uint32_t i = 0; i < bits; i++) {
        contexts[i] = (uint16_t)below(groups);
        places[i] = place += 1 + below(3);
        bias[i] = (int16_t)(below(2000) - 1000);
    }
    for (uint32_t i = 0; i < 8; i++)
        offsets[i] = 1 + below(50);
    for (uint32_t i = 0; i < bits * (bits - 1) / 2; i++)
        weights[i] = (int8_t)(below(255) - 127);
    rule.cells = wild && below(3) == 0 ? below(place + 2) : place + 1;
    if (wild && below(3) == 0)
        table[below((uint32_t)rule.table_size)] = 0;
    if (wild && below(3) == 0)
        contexts[below(bits)] = (uint16_t)below(65536);
    if (wild && below(3) == 0)
        places[below(bits)] = below(2) ? below(400) : UINT32_MAX;
    if (wild && below(3) == 0)
        offsets[below(8)] = below(2) ? 0 : UINT32_MAX - below(9);
    if (wild && below(3) == 0)
        rule.first = below(400);
    if (wild && below(3) == 0)
        rule.last = below(400);
    if (wild && below(3) == 0)
        rule.offset_count = below(12);
    rule.table = copy(table, rule.table_size * sizeof table[0]);
    rule.contexts = copy(contexts, bits * sizeof contexts[0]);
    rule.places = copy(places, bits * sizeof places[0]);
    rule.offsets = copy(offsets, sizeof offsets);
    if (below(3) == 0) { /* linear, or without places */
        free((void *)rule.places);
        rule.places = NULL;
        rule.offset_count = 0;
        rule.cells = wild && below(3) == 0 ? below(bits + 1) : bits;
        if (below(2)) {
            rule.sums = malloc(bits * sizeof rule.sums[0]);
            rule.bias = copy(bias, bits * sizeof bias[0]);
            rule.weights = copy(weights, bits * (bits - 1) / 2);
        }
    }
    return rule;
}

static void free_rule(struct ecc_rule *rule)
{
    const void *arrays[] = {rule->table, rule->contexts, rule->places, rule->offsets, rule->bias, rule->weights, rule->sums};
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++)
        free((void *)arrays[i]);
}

static uint8_t *cells_of(const struct ecc_rule *rule, uint32_t rate, size_t count)
{
    uint8_t *cells = calloc(rule->cells ? rule->cells : 1, 1);
    if (cells == NULL)
        exit(2);
    for (size_t i = 0; i < count && i < rule->size; i++) {
        size_t place = rule->places != NULL ? rule->places[i] : i;
        if (place < rule->cells)
            cells[place] = below(100) < rate;
    }
    return cells;
}

static void round_trip(const struct ecc_rule *rule, int round)
{
    size_t length = 0, again = 0, capacity = 2 * rule->size + 8;
    uint8_t *cells = cells_of(rule, below(101), rule->last), *out = malloc(capacity);
    expect(ecc_range_encode(rule, cells, out, capacity, &length) == ECC_OK, "not coded", round);
    expect(length >= 1 && length <= capacity && (length == 1 || out[length - 1] != 0), "a zero at the end", round);
    uint8_t *exact = copy(out, length), *tight = malloc(length), *back = calloc(rule->cells, 1);
    expect(ecc_range_encode(rule, cells, tight, length, &again) == ECC_OK, "no room in what fits", round);
    expect(again == length && memcmp(tight, exact, length) == 0, "other bytes in a tight buffer", round);
    expect(ecc_range_encode(rule, cells, tight, length - 1, &again) == ECC_ROOM, "room where there is none", round);
    for (size_t i = 0; i < rule->first; i++) {
        size_t place = rule->places != NULL ? rule->places[i] : i;
        back[place] = cells[place];
    }
    expect(ecc_range_decode(rule, back, exact, length) == ECC_OK, "not decoded", round);
    expect(memcmp(back, cells, rule->cells) == 0, "other bits came back", round);
    free(cells);
    free(out);
    free(exact);
    free(tight);
    free(back);
}

static void hostile(const struct ecc_rule *rule, int round)
{
    uint8_t bytes[24];
    size_t length = below(sizeof bytes + 1), again = 0;
    for (size_t i = 0; i < length; i++)
        bytes[i] = (uint8_t)(below(4) ? below(256) : below(2) ? 0 : 255);
    uint8_t *data = copy(bytes, length), *out = malloc(length ? length : 1), *cells = cells_of(rule, 50, rule->first);
    int status = ecc_range_decode(rule, cells, data, length);
    expect(status == ECC_OK || status == ECC_ARGUMENT, "an unknown error", round);
    status = ecc_range_encode(rule, cells, out, length, &again);
    expect(status != ECC_OK || again <= length, "more bytes than there is room for", round);
    free(data);
    free(out);
    free(cells);
}

int main(void)
{
    for (int round = 0; round < ROUNDS; round++) {
        struct ecc_rule rule = make_rule(0);
        if (rule.first < rule.last)
            round_trip(&rule, round);
        hostile(&rule, round);
        free_rule(&rule);
        rule = make_rule(1);
        hostile(&rule, round);
        free_rule(&rule);
    }
    printf("range coder: %d rounds\n", ROUNDS);
    return 0;
}
