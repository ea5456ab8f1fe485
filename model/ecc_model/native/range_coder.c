#include "range_coder.h"

#define PRECISION 16
#define TOP ((uint32_t)1 << 24) /* the range never stays below: a probability of 1/65536 still takes 256 of it */
#define MAX_OFFSETS 8
#define MAX_SIZE ((size_t)1 << 21) /* sums of as many int8 weights stay far inside int32 */

/* ---- where the probability of bit i stands ---- */

static int rule_is_sound(const struct ecc_rule *rule)
{
    if (rule->table == NULL || rule->table_size == 0 || rule->first > rule->last || rule->last > rule->size
        || rule->size > MAX_SIZE || rule->offset_count > MAX_OFFSETS)
        return 0;
    if (rule->places == NULL && rule->cells < rule->size)
        return 0;
    if (rule->bias != NULL)
        return rule->weights != NULL && rule->sums != NULL && rule->places == NULL;
    return rule->offset_count == 0 || rule->offsets != NULL;
}

/* Every bit's cell exists and comes after the one before, so no rule ever sees a bit that is not coded yet. */
static int places_are_sound(const struct ecc_rule *rule)
{
    size_t next = 0;
    if (rule->places != NULL)
        for (size_t i = 0; i < rule->last; i++) {
            if (rule->places[i] < next || rule->places[i] >= rule->cells)
                return 0;
            next = (size_t)rule->places[i] + 1;
        }
    return 1;
}

static inline size_t place_of(const struct ecc_rule *rule, size_t i)
{
    return rule->places != NULL ? rule->places[i] : i;
}

/* A one at bit i: what it adds to the bits after it. */
static inline void learn(const struct ecc_rule *rule, size_t i)
{
    const int8_t *row = rule->weights + i * (2 * rule->size - i - 1) / 2;
    int32_t *sums = rule->sums + i + 1;
    for (size_t k = 0; k < rule->last - i - 1; k++)
        sums[k] += row[k];
}

static void start(const struct ecc_rule *rule, const uint8_t *cells)
{
    if (rule->bias == NULL)
        return;
    for (size_t i = 0; i < rule->last; i++)
        rule->sums[i] = rule->bias[i];
    for (size_t i = 0; i < rule->first; i++)
        if (cells[i])
            learn(rule, i);
}

/* Probability of a one at bit i, 0 if the rule leads outside of its tables. */
static inline uint32_t probability(const struct ecc_rule *rule, const uint8_t *cells, size_t i)
{
    size_t index;
    if (rule->bias != NULL) {
        int64_t middle = (int64_t)(rule->table_size / 2), last = (int64_t)rule->table_size - 1;
        int64_t sum = rule->sums[i] + middle;
        index = (size_t)(sum < 0 ? 0 : sum > last ? last : sum);
    } else {
        size_t place = place_of(rule, i);
        index = rule->contexts != NULL ? rule->contexts[i] : i;
        for (size_t k = 0; k < rule->offset_count; k++) {
            size_t offset = rule->offsets[k];
            if (offset == 0 || offset > place)
                return 0;
            index = 2 * index + (cells[place - offset] != 0);
        }
        if (index >= rule->table_size)
            return 0;
    }
    return rule->table[index];
}

/* ---- bytes out ---- */

/* The bytes so far are: `length` in `out`, the last of them not zero; `zeros` zero bytes; `held`; `full` bytes 0xFF.
 * A carry still changes `held` and what follows it, nothing before; so what is in `out` stays, and no message is called
 * too long whose last bytes would become zeros, which are left out in the end. */
struct writer {
    uint8_t *out;
    size_t capacity, length, zeros, full;
    int holds;
    uint8_t held;
    uint32_t low, range; /* the message lies in [low, low + range) behind the bytes so far */
};

static int settle(struct writer *writer, uint8_t byte, size_t times)
{
    if (byte == 0) {
        writer->zeros += times;
        return ECC_OK;
    }
    size_t room = writer->capacity - writer->length;
    if (times > room || writer->zeros > room - times)
        return ECC_ROOM;
    for (; writer->zeros > 0; writer->zeros--)
        writer->out[writer->length++] = 0;
    for (; times > 0; times--)
        writer->out[writer->length++] = byte;
    return ECC_OK;
}

/* `held` and the run behind it are final now; `byte` follows them and is held next. */
static int release(struct writer *writer, uint8_t run, size_t times, uint8_t byte)
{
    int status = writer->holds ? settle(writer, writer->held, 1) : ECC_OK;
    if (status == ECC_OK && times > 0)
        status = settle(writer, run, times);
    writer->full = 0;
    writer->held = byte;
    writer->holds = 1;
    return status;
}

static inline int put(struct writer *writer, uint8_t byte)
{
    if (byte == 0xFF) {
        writer->full++;
        return ECC_OK;
    }
    return release(writer, 0xFF, writer->full, byte);
}

/* Adds one to the number that the bytes so far are; the sum stays below 1, so `held` takes it. */
static int carry(struct writer *writer)
{
    writer->held++;
    return writer->full > 0 ? release(writer, 0, writer->full - 1, 0) : ECC_OK;
}

static inline int write_bit(struct writer *writer, int bit, uint32_t p)
{
    uint32_t one = (uint32_t)(((uint64_t)writer->range * p) >> PRECISION);
    uint32_t zero = writer->range - one;
    int status = ECC_OK;
    if (bit) {
        writer->low += zero;
        writer->range = one;
        if (writer->low < zero)
            status = carry(writer);
    } else {
        writer->range = zero;
    }
    while (writer->range < TOP && status == ECC_OK) {
        status = put(writer, (uint8_t)(writer->low >> 24));
        writer->low <<= 8;
        writer->range <<= 8;
    }
    return status;
}

/* The shortest bytes, then the smallest, that lie in the final interval; at least one. As `range` is TOP or more, one
 * byte behind those so far is enough. */
static int finish(struct writer *writer)
{
    uint64_t low = writer->low, one = (uint64_t)1 << 32;
    int status = ECC_OK;
    if (low + writer->range > one)
        status = carry(writer);
    else if (low > 0)
        status = put(writer, (uint8_t)((low + TOP - 1) >> 24));
    if (status == ECC_OK)
        status = release(writer, 0xFF, writer->full, 0);
    if (status == ECC_OK && writer->length == 0) {
        if (writer->capacity == 0)
            return ECC_ROOM;
        writer->out[writer->length++] = 0;
    }
    return status;
}

int ecc_range_encode(const struct ecc_rule *rule, const uint8_t *cells, uint8_t *out, size_t capacity, size_t *length)
{
    struct writer writer = {.out = out, .capacity = capacity, .range = UINT32_MAX};
    if (!rule_is_sound(rule) || !places_are_sound(rule))
        return ECC_ARGUMENT;
    start(rule, cells);
    for (size_t i = rule->first; i < rule->last; i++) {
        uint32_t p = probability(rule, cells, i);
        int bit = cells[place_of(rule, i)] != 0;
        if (p == 0)
            return ECC_ARGUMENT;
        int status = write_bit(&writer, bit, p);
        if (status != ECC_OK)
            return status;
        if (bit && rule->bias != NULL)
            learn(rule, i);
    }
    int status = finish(&writer);
    *length = writer.length;
    return status;
}

/* ---- bytes in ---- */

struct reader {
    const uint8_t *data;
    size_t length, at; /* behind the end follow zeros */
    uint32_t code, range;
};

static inline uint8_t next(struct reader *reader)
{
    return reader->at < reader->length ? reader->data[reader->at++] : 0;
}

static inline int read_bit(struct reader *reader, uint32_t p)
{
    uint32_t one = (uint32_t)(((uint64_t)reader->range * p) >> PRECISION);
    uint32_t zero = reader->range - one;
    int bit = reader->code >= zero;
    if (bit) {
        reader->code -= zero;
        reader->range = one;
    } else {
        reader->range = zero;
    }
    while (reader->range < TOP) {
        reader->code = reader->code << 8 | next(reader);
        reader->range <<= 8;
    }
    return bit;
}

int ecc_range_decode(const struct ecc_rule *rule, uint8_t *cells, const uint8_t *data, size_t length)
{
    struct reader reader = {data, length, 0, 0, UINT32_MAX};
    if (!rule_is_sound(rule) || !places_are_sound(rule))
        return ECC_ARGUMENT;
    for (int k = 0; k < 4; k++)
        reader.code = reader.code << 8 | next(&reader);
    start(rule, cells);
    for (size_t i = rule->first; i < rule->last; i++) {
        uint32_t p = probability(rule, cells, i);
        if (p == 0)
            return ECC_ARGUMENT;
        int bit = read_bit(&reader, p);
        cells[place_of(rule, i)] = (uint8_t)bit;
        if (bit && rule->bias != NULL)
            learn(rule, i);
    }
    return ECC_OK;
}
