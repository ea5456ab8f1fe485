/* The kernel, compiled once for each instruction set. The file that includes this one has defined VECTOR and FIRE,
 * included events_vectors.h, and written these functions:
 *
 *   expand16         appends the places of sixteen bits to a list of events
 *   read_half        LANES weights as 16-bit numbers
 *   widen_low, _high half a vector of 16-bit sums in 32 bits
 *   spike            compares FIRE neurons with their thresholds: bits to memory, those that spiked to zero
 *   multiply_pairs   VECTOR / 4 sums of two 16-bit products
 */

#define FLUSH 256       /* events whose weights 16 bits can sum: 256 * -128 = -2^15 */
#define SHARE_ABOVE 16.0 /* vector additions saved, from which on a third list for two steps pays */
#define SAMPLES 32      /* positions that are looked at to tell how a map fires */

/* ---- lists of events ---- */

/* The events of step `a` that are in step `b` too, or (`flip`: all ones) are not; a = b: all of them. */
struct stream {
    uint32_t a, b;
    uint64_t flip;
};

/* The events that some synapses see: a ring of lists, one for each row of the map, and of each output row the strip. */
struct lists {
    const struct ecc_synapses *s;
    uint32_t row;      /* bytes of a row of weights */
    uint32_t expanded; /* rows of the map in the ring so far */
    uint64_t inverted; /* all ones: most inputs fire, so the lists hold those that do not */
    uint32_t streams;
    struct stream stream[ECC_STREAMS(ECC_MAX_STEPS)];
    uint64_t places; /* of a list */
    uint32_t *list, *starts, *strip, *strip_starts;
    uint32_t summed[4]; /* the window whose sum stands in s->full: columns and taps from, to */
};

inline_ uint64_t word_at(const unsigned char *bits)
{
    uint64_t word;
    memcpy(&word, bits, 8);
    return word;
}

/* Looks at some positions: do more than half of the inputs fire, and would pairs of steps gain by shared events? */
inline_ int take_census(const struct ecc_call *call, struct lists *l)
{
    const struct ecc_map *map = &l->s->from;
    uint64_t positions = (uint64_t)map->height * map->width * map->pool * map->pool, step = positions / SAMPLES + 1;
    uint64_t ones = 0, both = 0, seen = 0;
    for (uint64_t p = 0; p < positions; p += step, seen++)
        for (uint32_t t = 0; t < call->count; t++) {
            const unsigned char *bits = call->arena + map->bits + t * map->step_bytes + p * map->position_bytes;
            const unsigned char *next = t % 2 == 0 && t + 1 < call->count ? bits + map->step_bytes : NULL;
            for (uint64_t w = 0; w < map->position_bytes; w += 8) {
                ones += (uint64_t)__builtin_popcountll(word_at(bits + w));
                both += next ? (uint64_t)__builtin_popcountll(word_at(bits + w) & word_at(next + w)) : 0;
            }
        }
    uint64_t pairs = seen * (call->count / 2), all = seen * call->count * map->channels;
    l->inverted = ones * 2 > all ? ~(uint64_t)0 : 0;
    if (pairs == 0)
        return 0;
    if (l->inverted) /* what neither step fires */
        both += 2 * pairs * map->channels > ones ? pairs * map->channels - ones : 0;
    uint64_t window = (uint64_t)l->s->kernel_height * l->s->kernel_width * map->pool * map->pool;
    return (double)both / (double)pairs * (double)window * l->row / UNIT > SHARE_ABOVE;
}

inline_ void open_lists(struct lists *l, const struct ecc_call *call, const struct ecc_synapses *s, uint32_t row,
                        int which)
{
    uint64_t rows = (uint64_t)ECC_STREAMS(call->plan->steps) * s->kernel_height;
    l->s = s;
    l->row = row;
    l->expanded = l->streams = l->summed[1] = 0;
    int shared = take_census(call, l);
    for (uint32_t t = 0; t < call->count; t++) {
        l->stream[l->streams++] = (struct stream){t, t, 0};
        if (!shared || t + 1 == call->count)
            continue;
        l->stream[l->streams - 1].b = ++t; /* the common events, then those of one step alone */
        l->stream[l->streams++] = (struct stream){t - 1, t, ~(uint64_t)0};
        l->stream[l->streams++] = (struct stream){t, t - 1, ~(uint64_t)0};
    }
    l->places = ecc_list_places(s);
    l->list = (uint32_t *)(void *)(call->arena + call->plan->lists[which]);
    l->starts = l->list + rows * l->places;
    l->strip = (uint32_t *)(void *)(call->arena + call->plan->strips[which]);
    l->strip_starts = l->strip + rows * l->places;
}

/* The events of row `y` of the map, position by position: offsets of their rows of weights within one tap. */
inline_ void expand_row(const struct ecc_call *call, const struct lists *l, struct stream stream, uint32_t y,
                        uint32_t *list, uint32_t *starts)
{
    const struct ecc_map *map = &l->s->from;
    const unsigned char *bits = call->arena + map->bits + stream.a * map->step_bytes;
    const unsigned char *others = call->arena + map->bits + stream.b * map->step_bytes;
    uint32_t pool = map->pool, channels = map->channels, row = l->row, n = 0;
    for (uint32_t x = 0; x < map->width; x++) {
        starts[x] = n;
        for (uint32_t i = 0; i < pool * pool; i++) {
            uint64_t place = (uint64_t)(y * pool + i / pool) * map->width * pool + x * pool + i % pool;
            uint64_t at = place * map->position_bytes;
            for (uint32_t c = 0; c < channels; c += 64, at += 8) {
                uint64_t word = word_at(bits + at) ^ l->inverted;
                word &= word_at(others + at) ^ l->inverted ^ stream.flip;
                if (channels - c < 64)
                    word &= ((uint64_t)1 << (channels - c)) - 1;
                if (word == 0)
                    continue;
                for (uint32_t k = c; k < c + 64 && k < channels; k += 16, word >>= 16)
                    n = expand16(&call->plan->byte, (uint16_t)word, k * row, row, list, n);
            }
        }
    }
    starts[map->width] = n;
}

/* Of each stream one list of all events that output row `y` sees, column by column: the events of any window are then
 * one run of it, and their offsets count from the window's own. */
inline_ void gather_row(const struct ecc_call *call, struct lists *l, uint32_t y)
{
    const struct ecc_map *map = &l->s->from;
    uint32_t height = l->s->kernel_height, columns = map->width + 1, tap = map->channels * l->row;
    int64_t first = (int64_t)y * l->s->stride - l->s->padding, end = first + height;
    for (; l->expanded < map->height && l->expanded < end; l->expanded++)
        for (uint32_t i = 0; i < l->streams; i++) {
            uint64_t slot = (uint64_t)i * height + l->expanded % height;
            expand_row(call, l, l->stream[i], l->expanded, l->list + slot * l->places, l->starts + slot * columns);
        }
    uint32_t above = first < 0 ? (uint32_t)-first : 0; /* taps above the map */
    int64_t last = end < map->height ? end : map->height;
    uint32_t taps = last > first + above ? (uint32_t)(last - first - above) : 0;
    for (uint32_t i = 0; i < l->streams; i++) {
        const uint32_t *list = l->list + i * l->places * height, *starts = l->starts + (uint64_t)i * height * columns;
        uint32_t *strip = l->strip + i * l->places * height, *to = l->strip_starts + (uint64_t)i * columns;
        uint32_t top = (uint32_t)((first + above) % height), any = 0, n = 0;
        for (uint32_t k = 0, slot = top; k < taps; k++, slot = slot + 1 == height ? 0 : slot + 1)
            any |= starts[(uint64_t)slot * columns + map->width];
        if (!any) {
            memset(to, 0, columns * sizeof *to);
            continue;
        }
        for (uint32_t x = 0; x < map->width; x++) {
            uint32_t offset = (x * height + above) * tap;
            to[x] = n;
            for (uint32_t k = 0, slot = top; k < taps; k++, slot = slot + 1 == height ? 0 : slot + 1, offset += tap) {
                const uint32_t *start = starts + (uint64_t)slot * columns + x;
                const uint32_t *from = list + slot * l->places + start[0];
                uint32_t some = start[1] - start[0], done = 0;
                do { /* sixteen at a time, nearly always once */
                    *(list_v *)(strip + n + done) = *(const list_v *)(from + done) + offset;
                    done += 16;
                } while (done < some);
                n += some;
            }
        }
        to[map->width] = n;
    }
}

/* The columns of the map that an output column sees, and where its events' offsets count from. */
struct window {
    uint32_t low, high;
    int64_t origin;
};

struct events {
    const uint32_t *list;
    size_t count;
};

inline_ struct window window_of(const struct lists *l, uint32_t x)
{
    const struct ecc_synapses *s = l->s;
    int64_t first = (int64_t)x * s->stride - s->padding, last = first + s->kernel_width, width = s->from.width;
    struct window w = {.origin = first * ((int64_t)s->kernel_height * s->from.channels * l->row)};
    w.low = (uint32_t)(first < 0 ? 0 : first < width ? first : width);
    w.high = (uint32_t)(last < 0 ? 0 : last < width ? last : width);
    return w;
}

inline_ struct events events_of(const struct lists *l, struct window w, uint32_t stream)
{
    const uint32_t *starts = l->strip_starts + (uint64_t)stream * (l->s->from.width + 1);
    uint64_t strip = stream * l->places * l->s->kernel_height;
    return (struct events){l->strip + strip + starts[w.low], starts[w.high] - starts[w.low]};
}

inline_ size_t events_in(const struct lists *l, struct window w)
{
    size_t n = 0;
    for (uint32_t i = 0; i < l->streams; i++)
        n += events_of(l, w, i).count;
    return n;
}

/* ---- sums ---- */

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
    int32_t *full = ecc_numbers(call, s->full);
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

/* ---- neurons ---- */

#define EACH_PART _Pragma("GCC unroll 2") for (int p = 0; p < PARTS; p++)

/* The steps of a call for `n` neurons from channel `at` on: U = leak(V) + X, a spike where U >= theta, then V = 0,
 * else V = U. x: the sums of the first step, the next step's x_step further; the same for `out`, the spikes. */
inline_ void fire_leaking(int half, const struct ecc_call *call, const struct ecc_node *node, uint32_t at, uint32_t n,
                          int32_t *membrane, unsigned char *out, size_t out_step, const int32_t *x, size_t x_step)
{
    const int32_t *theta = ecc_numbers(call, node->theta) + at;
    int before = call->start > 0, after = call->start + call->count < call->plan->steps;
    uint32_t count = call->count, leak = (uint32_t)node->leak;
    for (uint32_t c = 0; c < n; c += FIRE) {
        wide_v v[PARTS], limit[PARTS];
        EACH_PART {
            limit[p] = ((const wide_v *)(theta + c))[p];
            v[p] = (wide_v){0};
            if (before)
                v[p] = ((const wide_v *)(membrane + c))[p];
        }
        const int32_t *current = x + c;
        unsigned char *to = out + c / 8;
        for (uint32_t t = 0; t < count; t++, current += x_step, to += out_step) {
            EACH_PART {
                uwide_v rest = (uwide_v)(v[p] >> 1);
                if (!half) /* floor(V leak / 2^15) without a 64-bit product */
                    rest = (uwide_v)(v[p] >> 15) * leak + ((((uwide_v)v[p] & 0x7fff) * leak) >> 15);
                v[p] = (wide_v)(rest + ((const uwide_v *)current)[p]);
            }
            spike(to, v, limit);
        }
        if (after)
            EACH_PART ((wide_v *)(membrane + c))[p] = v[p];
    }
}

inline_ void fire(const struct ecc_call *call, const struct ecc_node *node, uint64_t position, uint32_t at, uint32_t n,
                  const int32_t *x, size_t x_step)
{
    int32_t *membrane = ecc_numbers(call, node->membrane) + position * node->row + at;
    unsigned char *out = call->arena + node->to.bits + position * node->to.position_bytes + at / 8;
    if (node->leak == ECC_LEAK_ONE / 2)
        fire_leaking(1, call, node, at, n, membrane, out, node->to.step_bytes, x, x_step);
    else
        fire_leaking(0, call, node, at, n, membrane, out, node->to.step_bytes, x, x_step);
}

/* What neurons that see no spikes make of a whole frame: found once, copied to wherever nothing fires. */
static void silence(const struct ecc_call *call, const struct ecc_node *node)
{
    unsigned char *out = call->arena + node->silent;
    memset(out, 0, node->to.position_bytes * call->count);
    fire_leaking(0, call, node, 0, node->row, NULL, out, node->to.position_bytes, ecc_numbers(call, node->bias), 0);
}

inline_ void copy_silence(const struct ecc_call *call, const struct ecc_node *node, uint64_t position)
{
    size_t bytes = node->to.position_bytes;
    const unsigned char *from = call->arena + node->silent;
    unsigned char *to = call->arena + node->to.bits + position * bytes;
    for (uint32_t t = 0; t < call->count; t++, from += bytes, to += node->to.step_bytes)
        for (size_t k = 0; k < bytes; k += 8)
            memcpy(to + k, from + k, 8);
}

/* ---- layers ---- */

static void convolution(const struct ecc_call *call, const struct ecc_node *node)
{
    steps_of_sums x;
    struct lists l;
    open_lists(&l, call, &node->main, node->row, 0);
    int sparse = call->count == call->plan->steps && !l.inverted;
    uint64_t position = 0;
    for (uint32_t oy = 0; oy < node->to.height; oy++) {
        gather_row(call, &l, oy);
        for (uint32_t ox = 0; ox < node->to.width; ox++, position++) {
            struct window w = window_of(&l, ox);
            if (sparse && events_in(&l, w) == 0) {
                copy_silence(call, node, position);
                continue;
            }
            const int32_t *base = start_from(call, &l, oy, ox, ecc_numbers(call, node->bias));
            FOR_BLOCKS(node->row) {
                sum_steps(call, &l, w, at, n, base, x);
                fire(call, node, position, at, n, x[0], 4 * UNIT);
            }
        }
    }
}

static void readout(const struct ecc_call *call, const struct ecc_node *node)
{
    steps_of_sums x;
    struct lists l;
    open_lists(&l, call, &node->main, node->row, 0);
    gather_row(call, &l, 0);
    const int32_t *base = start_from(call, &l, 0, 0, ecc_numbers(call, node->bias));
    FOR_BLOCKS(node->row) {
        sum_steps(call, &l, window_of(&l, 0), at, n, base, x);
        for (uint32_t o = at; o < at + n && o < node->outputs; o++) {
            uint32_t sum = 0;
            for (uint32_t t = 0; t < call->count; t++)
                sum += (uint32_t)x[t][o - at];
            call->sums[o] = (int32_t)sum;
        }
    }
}

/* y[t] = the bare spikes of a position, 0 and 1. */
inline_ void bare_spikes(const struct ecc_call *call, const struct ecc_map *map, uint64_t position, uint32_t at,
                         uint32_t n, steps_of_sums y)
{
    const unsigned char *bits = call->arena + map->bits + position * map->position_bytes + at / 8;
    for (uint32_t t = 0; t < call->count; t++, bits += map->step_bytes)
        for (uint32_t c = 0; c < n; c++)
            y[t][c] = bits[c / 8] >> c % 8 & 1;
}

/* x = ((gain x + shortcut_gain y) >> shift) + bias, in 64 bits up to the shift. */
inline_ void join(const struct ecc_call *call, const struct ecc_node *node, uint32_t at, uint32_t n, int32_t *x,
                  const int32_t *y)
{
    const int32_t *gain = ecc_numbers(call, node->gain) + at, *other = ecc_numbers(call, node->shortcut_gain) + at;
    const int32_t *bias = ecc_numbers(call, node->bias) + at;
    for (uint32_t c = 0; c < n; c++) {
        uint64_t sum = (uint64_t)((int64_t)gain[c] * x[c]) + (uint64_t)((int64_t)other[c] * y[c]);
        x[c] = (int32_t)((uint32_t)((int64_t)sum >> node->shift) + (uint32_t)bias[c]);
    }
}

static void residual(const struct ecc_call *call, const struct ecc_node *node)
{
    steps_of_sums x, y;
    struct lists main, shortcut;
    const int32_t *zeros = ecc_numbers(call, node->zeros);
    int bare = node->shortcut.kernel_height == 0;
    uint64_t position = 0;
    open_lists(&main, call, &node->main, node->row, 0);
    if (!bare)
        open_lists(&shortcut, call, &node->shortcut, node->row, 1);
    for (uint32_t oy = 0; oy < node->to.height; oy++) {
        gather_row(call, &main, oy);
        if (!bare)
            gather_row(call, &shortcut, oy);
        for (uint32_t ox = 0; ox < node->to.width; ox++, position++)
            FOR_BLOCKS(node->row) {
                sum_steps(call, &main, window_of(&main, ox), at, n, start_from(call, &main, oy, ox, zeros), x);
                if (bare)
                    bare_spikes(call, &node->shortcut.from, position, at, n, y);
                else
                    sum_steps(call, &shortcut, window_of(&shortcut, ox), at, n,
                              start_from(call, &shortcut, oy, ox, zeros), y);
                for (uint32_t t = 0; t < call->count; t++)
                    join(call, node, at, n, x[t], y[t]);
                fire(call, node, position, at, n, x[0], 4 * UNIT);
            }
    }
}

static void layer(const struct ecc_call *call, const struct ecc_node *node)
{
    if (node->op == ECC_READOUT)
        readout(call, node);
    else if (node->op == ECC_RESIDUAL)
        residual(call, node);
    else
        convolution(call, node);
}

/* ---- the frame ---- */

/* A frame with its border of zeros, in 16 bits. */
inline_ void pad_frame(const struct ecc_synapses *s, const uint8_t *frame, int16_t *to)
{
    size_t p = s->padding, channels = s->from.channels, across = s->from.width * channels;
    size_t width = across + 2 * p * channels;
    memset(to, 0, (s->from.height + 2 * p) * width * sizeof *to);
    for (size_t y = 0; y < s->from.height; y++)
        for (size_t x = 0; x < across; x++)
            to[(y + p) * width + p * channels + x] = frame[y * across + x];
}

/* x[0 .. N LANES - 1] = bias + weights . patch, in sums of two products. */
#define DEFINE_MULTIPLY(N)                                                                             \
    inline_ void multiply_##N(const int16_t *weights, uint32_t row, const int16_t *patch, size_t pairs, \
                              const int32_t *bias, int32_t *x)                                         \
    {                                                                                                  \
        uwide_v sums[2 * N];                                                                           \
        UNROLLED(2 * N) sums[k] = ((const uwide_v *)bias)[k];                                          \
        for (size_t i = 0; i < pairs; i++) {                                                           \
            int32_t pair;                                                                              \
            memcpy(&pair, patch + 2 * i, 4);                                                           \
            const int16_t *from = weights + 2 * i * row;                                               \
            UNROLLED(2 * N) sums[k] += (uwide_v)multiply_pairs(from + k * LANES, pair);                \
        }                                                                                              \
        UNROLLED(2 * N) ((uwide_v *)x)[k] = sums[k];                                                   \
    }
DEFINE_MULTIPLY(1)
DEFINE_MULTIPLY(2)

inline_ void multiply(const int16_t *weights, uint32_t row, uint32_t n, const int16_t *patch, size_t pairs,
                      const int32_t *bias, int32_t *x)
{
    uint32_t c = 0;
    for (; c + 2 * LANES <= n; c += 2 * LANES)
        multiply_2(weights + 2 * c, row, patch, pairs, bias + c, x + c);
    for (; c < n; c += LANES)
        multiply_1(weights + 2 * c, row, patch, pairs, bias + c, x + c);
}

static void pixels(const struct ecc_call *call, const struct ecc_node *node)
{
    steps_of_sums x;
    const struct ecc_synapses *s = &node->main;
    size_t channels = s->from.channels, run = s->kernel_width * channels, pairs = (run * s->kernel_height + 1) / 2;
    size_t width = (s->from.width + 2 * (size_t)s->padding) * channels, size = (s->from.height + 2 * (size_t)s->padding) * width;
    uint32_t frames = call->still ? 1 : call->count;
    int kept = call->still && call->count < call->plan->steps; /* the sums of a still frame serve the next call too */
    int known = kept && call->start > 0;
    const int16_t *weights = (const int16_t *)(const void *)(call->arena + s->weight);
    const int32_t *bias = ecc_numbers(call, node->bias);
    int16_t *padded = (int16_t *)(void *)(call->arena + node->padded);
    int16_t *patches = (int16_t *)(void *)(call->arena + node->patch);
    for (uint32_t t = 0; t < frames && !known; t++)
        pad_frame(s, ecc_frame(call, node) + t * s->from.step_bytes, padded + t * size);
    uint64_t position = 0;
    for (uint32_t oy = 0; oy < node->to.height; oy++)
        for (uint32_t ox = 0; ox < node->to.width; ox++, position++) {
            int32_t *still = ecc_numbers(call, node->still) + position * node->row;
            for (uint32_t t = 0; t < frames && !known; t++) {
                const int16_t *from = padded + t * size + oy * s->stride * width + ox * s->stride * channels;
                int16_t *to = patches + t * node->patch_size;
                for (size_t y = 0; y < s->kernel_height; y++, from += width, to += run)
                    for (size_t k = 0; k < run; k += 16) /* what is too much, the next row overwrites */
                        *(patch_v *)(to + k) = *(const patch_v *)(from + k);
            }
            FOR_BLOCKS(node->row) {
                for (uint32_t t = 0; t < frames && !known; t++)
                    multiply(weights + 2 * at, node->row, n, patches + t * node->patch_size, pairs, bias + at,
                             kept ? still + at : x[t]);
                fire(call, node, position, at, n, kept ? still + at : x[0], call->still ? 0 : 4 * UNIT);
            }
        }
}
