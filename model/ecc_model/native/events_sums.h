/* What the events of a window add up to: rows of weights, summed in 16 bits and flushed to 32. */

#define FLUSH 256 /* events whose weights 16 bits can sum: 256 * -128 = -2^15 */

/* x = base + sums, or base - sums. */
inline_ void widen(int32_t *x, const int32_t *base, sums_v sums, uint64_t negative)
{
    const uwide_v *from = (const uwide_v *)base;
    uwide_v low = (uwide_v)widen_low(sums), high = (uwide_v)widen_high(sums);
    ((uwide_v *)x)[0] = negative ? from[0] - low : from[0] + low;
    ((uwide_v *)x)[1] = negative ? from[1] - high : from[1] + high;
}

/* x[0 .. N UNIT - 1] = base + the sum of the rows that the events name (negative: minus it).
 *
 * A unit of a row is read as 16-bit numbers `256 high + low`: the weight of one channel in the upper byte, that of
 * another, plus 128, in the lower one. `all` sums the numbers modulo 2^16 and `high` their upper bytes, so
 * `all - 256 high` is the sum of the lower ones: two additions and a shift for what two shuffles and two additions
 * would widen. */
#define DEFINE_ACCUMULATE(N)                                                                                 \
    inline_ void accumulate_##N(const int8_t *weights, int64_t origin, struct events events, uint64_t negative, \
                                const int32_t *base, int32_t *x)                                             \
    {                                                                                                        \
        size_t i = 0;                                                                                        \
        do {                                                                                                 \
            size_t begin = i, end = events.count - i > FLUSH ? i + FLUSH : events.count;                     \
            wrapping_v all[N];                                                                               \
            sums_v high[N];                                                                                  \
            UNROLLED(N) {                                                                                    \
                all[k] = (wrapping_v){0};                                                                    \
                high[k] = (sums_v){0};                                                                       \
            }                                                                                                \
            for (; i < end; i++) {                                                                           \
                const row_v *row = (const row_v *)(weights + (events.list[i] - origin));                     \
                UNROLLED(N) {                                                                                \
                    all[k] += (wrapping_v)row[k];                                                            \
                    high[k] += row[k] >> 8;                                                                  \
                }                                                                                            \
            }                                                                                                \
            UNROLLED(N) {                                                                                    \
                all[k] -= ((wrapping_v)high[k] << 8) + (uint16_t)(128 * (end - begin));                      \
                widen(x + k * UNIT, base + k * UNIT, (sums_v)all[k], negative);                              \
                widen(x + k * UNIT + LANES, base + k * UNIT + LANES, high[k], negative);                     \
            }                                                                                                \
            base = x;                                                                                        \
        } while (i < events.count);                                                                          \
    }
DEFINE_ACCUMULATE(1)
DEFINE_ACCUMULATE(2)
DEFINE_ACCUMULATE(4)

/* The same for the half unit that a row may end with; its weights are plain bytes. */
inline_ void accumulate_half(const int8_t *weights, int64_t origin, struct events events, uint64_t negative,
                             const int32_t *base, int32_t *x)
{
    size_t i = 0;
    do {
        size_t end = events.count - i > FLUSH ? i + FLUSH : events.count;
        sums_v sums = {0};
        for (; i < end; i++)
            sums += read_half(weights + (events.list[i] - origin));
        widen(x, base, sums, negative);
        base = x;
    } while (i < events.count);
}

/* Channels whose sums stay in registers together: the next block of a row. */
inline_ uint32_t block_of(uint32_t channels)
{
    return channels >= 4 * UNIT ? 4 * UNIT : channels >= 2 * UNIT ? 2 * UNIT : channels >= UNIT ? UNIT : LANES;
}

/* Runs a statement for each block of `row` channels: `at` is its first one, `n` their number. */
#define FOR_BLOCKS(row) for (uint32_t at = 0, n; at < (row) && (n = block_of((row)-at)) != 0; at += n)

inline_ void accumulate(uint32_t n, const int8_t *weights, int64_t origin, struct events events, uint64_t negative,
                        const int32_t *base, int32_t *x)
{
    if (n == 4 * UNIT)
        accumulate_4(weights, origin, events, negative, base, x);
    else if (n == 2 * UNIT)
        accumulate_2(weights, origin, events, negative, base, x);
    else if (n == UNIT)
        accumulate_1(weights, origin, events, negative, base, x);
    else
        accumulate_half(weights, origin, events, negative, base, x);
}

/* What the sums of output (y, x) start from: `base`, or with inverted lists that and all rows of the window. */
inline_ const int32_t *start_from(const struct ecc_call *call, struct lists *l, uint32_t y, uint32_t x,
                                  const int32_t *base)
{
    if (!l->inverted)
        return base;
    const struct ecc_synapses *s = l->s;
    int64_t top = (int64_t)y * s->stride - s->padding, left = (int64_t)x * s->stride - s->padding;
    uint32_t seen[4] = {0, s->kernel_width, 0, s->kernel_height};
    for (; left + seen[0] < 0; seen[0]++)
        ;
    for (; seen[1] > seen[0] && left + seen[1] > s->from.width; seen[1]--)
        ;
    for (; top + seen[2] < 0; seen[2]++)
        ;
    for (; seen[3] > seen[2] && top + seen[3] > s->from.height; seen[3]--)
        ;
    int32_t *full = ecc_numbers(call, s->full) + (size_t)call->thread * l->row;
    if (l->summed[1] && memcmp(seen, l->summed, sizeof seen) == 0)
        return full;
    memcpy(l->summed, seen, sizeof seen);
    uint32_t block = s->from.pool * s->from.pool;
    memcpy(full, base, l->row * sizeof *full);
    for (uint32_t i = seen[0]; i < seen[1]; i++)
        for (uint32_t k = seen[2]; k < seen[3]; k++) {
            const int32_t *tap = ecc_numbers(call, s->taps) + ((size_t)i * s->kernel_height + k) * l->row;
            for (uint32_t o = 0; o < l->row; o++)
                full[o] = (int32_t)((uint32_t)full[o] + (uint32_t)tap[o] * block);
        }
    return full;
}

typedef int32_t steps_of_sums[ECC_MAX_STEPS][4 * UNIT] __attribute__((aligned(64)));

/* x[t] = base + the sums of step t over a window, for channels at .. at + n - 1. */
inline_ void sum_steps(const struct ecc_call *call, const struct lists *l, struct window w, uint32_t at, uint32_t n,
                       const int32_t *base, steps_of_sums x)
{
    int32_t common[4 * UNIT] __attribute__((aligned(64)));
    const int8_t *weights = (const int8_t *)(call->arena + l->s->weight) + at;
    for (uint32_t i = 0; i < l->streams; i++) {
        struct stream stream = l->stream[i];
        if (stream.a == stream.b) {
            accumulate(n, weights, w.origin, events_of(l, w, i), l->inverted, base + at, x[stream.a]);
            continue;
        }
        accumulate(n, weights, w.origin, events_of(l, w, i++), l->inverted, base + at, common);
        accumulate(n, weights, w.origin, events_of(l, w, i++), l->inverted, common, x[stream.a]);
        accumulate(n, weights, w.origin, events_of(l, w, i), l->inverted, common, x[stream.b]);
    }
}

/* Adds the rows that the events name to `sums`: the kernel without all else, as the measure of its limit. */
static void add(const int8_t *weights, uint32_t row, const uint32_t *list, size_t count, int32_t *sums)
{
    FOR_BLOCKS(row)
        accumulate(n, weights + at, 0, (struct events){list, count}, 0, sums + at, sums + at);
}
