/* Which inputs of a window fire: lists of events, made row by row from the spikes of a map. */

#define SHARE_ABOVE 80.0 /* vector additions saved, from which on a third list for two steps pays */
#define SAMPLES 32       /* positions that are looked at to tell how a map fires */

/* The events of step `a` that are in step `b` too, or (`flip`: all ones) are not; a = b: all of them. */
struct stream {
    uint32_t a, b;
    uint64_t flip;
};

/* The events that some synapses see: a ring of lists, one for each row of the map, and of each output row the strip. */
struct lists {
    const struct ecc_synapses *s;
    uint32_t row;      /* bytes of a row of weights */
    uint32_t expanded; /* the next row of the map for the ring */
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

/* Looks at some positions: do more than half of the inputs fire, and would pairs of steps gain by shared events?
 * Returns the mean number of events that the lists hold for a step of a window. */
inline_ double take_census(const struct ecc_call *call, struct lists *l, int *shared)
{
    const struct ecc_map *map = &l->s->from;
    uint64_t positions = (uint64_t)map->height * map->width * map->pool * map->pool, step = positions / SAMPLES + 1;
    step += step % map->width == 0; /* not always the same column */
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
    double window = (double)l->s->kernel_height * l->s->kernel_width * map->pool * map->pool;
    l->inverted = ones * 2 > all ? ~(uint64_t)0 : 0;
    if (l->inverted) /* what neither step fires */
        both += 2 * pairs * map->channels > ones ? pairs * map->channels - ones : 0;
    *shared = pairs > 0 && (double)both / (double)pairs * window * l->row / UNIT > SHARE_ABOVE;
    uint64_t listed = (l->inverted ? all - ones : ones) - (*shared ? both : 0);
    return (double)listed / (double)(seen * call->count) * window;
}

/* Lists for output rows from `low` on. Returns the mean number of events that they hold for a step of a window, by a
 * sample. */
inline_ double open_lists(struct lists *l, const struct ecc_call *call, const struct ecc_synapses *s, uint32_t row,
                          int which, uint32_t low)
{
    int shared;
    uint64_t rows = (uint64_t)ECC_STREAMS(call->plan->steps) * s->kernel_height;
    l->s = s;
    l->row = row;
    l->streams = l->summed[1] = 0;
    l->expanded = low * s->stride > s->padding ? low * s->stride - s->padding : 0;
    double events = take_census(call, l, &shared);
    for (uint32_t t = 0; t < call->count; t++) {
        l->stream[l->streams++] = (struct stream){t, t, 0};
        if (!shared || t + 1 == call->count)
            continue;
        l->stream[l->streams - 1].b = ++t; /* the common events, then those of one step alone */
        l->stream[l->streams++] = (struct stream){t - 1, t, ~(uint64_t)0};
        l->stream[l->streams++] = (struct stream){t, t - 1, ~(uint64_t)0};
    }
    l->places = ecc_list_places(s);
    uint64_t own = call->thread * call->plan->list_bytes[which];
    l->list = (uint32_t *)(void *)(call->arena + call->plan->lists[which] + own);
    l->starts = l->list + rows * l->places;
    l->strip = (uint32_t *)(void *)(call->arena + call->plan->strips[which] + own);
    l->strip_starts = l->strip + rows * l->places;
    return events;
}

inline_ int is_silent(const unsigned char *bits, uint64_t bytes)
{
    uint64_t any = 0;
    for (uint64_t k = 0; k < bytes && !any; k += 8)
        any |= word_at(bits + k);
    return !any;
}

#ifndef EXPANDS_64
/* Appends the places of the bits of a word: of channels `first` and on, `channels` of the map being the last. */
inline_ uint32_t expand64(const struct ecc_bytes *table, uint64_t word, uint32_t first, uint32_t channels,
                          uint32_t row, uint32_t *list, uint32_t n)
{
    for (uint32_t c = first; c < first + 64 && c < channels; c += 16, word >>= 16)
        n = expand16(table, (uint16_t)word, c * row, row, list, n);
    return n;
}
#endif

/* The events of row `y` of the map, position by position: offsets of their rows of weights within one tap. */
inline_ void expand_row(const struct ecc_call *call, const struct lists *l, struct stream stream, uint32_t y,
                        uint32_t *list, uint32_t *starts)
{
    const struct ecc_map *map = &l->s->from;
    const unsigned char *bits = call->arena + map->bits + stream.a * map->step_bytes;
    const unsigned char *others = call->arena + map->bits + stream.b * map->step_bytes;
    uint32_t pool = map->pool, channels = map->channels, row = l->row, n = 0;
    uint64_t line = map->width * pool * pool * map->position_bytes; /* all blocks of the row lie together */
    if (!l->inverted && is_silent(bits + y * line, line)) {
        memset(starts, 0, (map->width + 1) * sizeof *starts);
        return;
    }
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
                n = expand64(&call->plan->byte, word, c, channels, row, list, n);
            }
        }
    }
    starts[map->width] = n;
}

/* Of each stream one list of all events that output row `y` sees, column by column: the events of any window are then
 * one run of it, and their offsets count from the window's own. 0: there are none. */
inline_ uint32_t gather_row(const struct ecc_call *call, struct lists *l, uint32_t y)
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
    uint32_t taps = last > first + above ? (uint32_t)(last - first - above) : 0, all = 0;
    for (uint32_t i = 0; i < l->streams; i++) {
        const uint32_t *list = l->list + i * l->places * height, *starts = l->starts + (uint64_t)i * height * columns;
        uint32_t *strip = l->strip + i * l->places * height, *to = l->strip_starts + (uint64_t)i * columns;
        uint32_t top = (uint32_t)((first + above) % height), any = 0, n = 0;
        for (uint32_t k = 0, slot = top; k < taps; k++, slot = slot + 1 == height ? 0 : slot + 1)
            any |= starts[(uint64_t)slot * columns + map->width];
        all |= any;
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
    return all;
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
