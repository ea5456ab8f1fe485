/* Random programs through the event engine: sound ones, whose bits must not depend on the instruction set nor on how a
 * frame is cut into calls or shared by threads, and wild ones, which it must refuse or survive.
 *
 * Built with sanitizers by `make test-native`: blobs, inputs and outputs are exactly as large as they are said to be, and
 * the parts of an arena lie between poisoned bytes.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "events.h"

#define BITS 0x87057cb907c34732u /* of 20000 rounds, on every processor, with every compiler and number of threads */
#ifndef ROUNDS
#define ROUNDS 20000
#endif
#define MAX_NODES 8
#define MAX_BLOB (4 << 20)
#define MAX_ARENA ((size_t)32 << 20)

static uint64_t state, digest = 14695981039346656037u; /* of all bits that sound programs gave */

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

static void add_to_digest(const uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        digest = (digest ^ bytes[i]) * 1099511628211u;
}

static void *room(size_t size)
{
    void *memory = malloc(size ? size : 1);
    if (memory == NULL)
        exit(2);
    return memory;
}

/* ---- programs ---- */

struct shape {
    int32_t channels, height, width, pool, pixels;
};

struct made {
    struct ecc_program program;
    struct ecc_layer layers[MAX_NODES];
    uint8_t blob[MAX_BLOB];
    size_t output_bytes; /* of all steps */
};

/* A place for `count` numbers of 32 bits between low and high, or of 8 bits where low is 0 and high is 0. */
static uint64_t put(struct made *m, size_t count, int32_t low, int32_t high)
{
    size_t at = m->program.blob_bytes, bytes = low || high ? 4 * count : count;
    if (at + bytes > MAX_BLOB)
        exit(2);
    for (size_t i = 0; i < count; i++) {
        int32_t number = low || high ? low + (int32_t)below((uint32_t)(high - low) + 1) : (int32_t)below(256);
        memcpy(m->blob + at + (low || high ? 4 * i : i), &number, low || high ? 4 : 1);
    }
    m->program.blob_bytes += bytes;
    return at;
}

static int32_t some_channels(void)
{
    static const int32_t many[] = {1, 2, 3, 5, 16, 17, 32, 33, 64, 70};
    return many[below(sizeof many / sizeof many[0])];
}

/* Neurons over `from`: a convolution, a residual, or at the end a readout. */
static struct shape add_neurons(struct made *m, struct shape from, int op)
{
    struct ecc_layer *l = m->layers + m->program.layer_count;
    struct shape to = from;
    int bare = op == ECC_RESIDUAL && below(2), whole = op == ECC_READOUT;
    l->op = op;
    l->input = l->shortcut = m->program.layer_count++ - 1;
    l->outputs = to.channels = bare ? from.channels : some_channels();
    l->padding = whole ? 0 : (int32_t)below(3);
    l->stride = bare ? 1 : 1 + (int32_t)below(3);
    int32_t least = from.height < from.width ? from.height : from.width;
    l->kernel_height = whole ? from.height : 1 + (int32_t)below((uint32_t)(least + 2 * l->padding < 4 ? least : 4));
    l->kernel_width = whole ? from.width : l->kernel_height;
    if (op == ECC_RESIDUAL) { /* a size that the shortcut has as well */
        l->kernel_height = l->kernel_width = least < 2 ? 1 : 3;
        l->padding = l->kernel_width / 2;
    }
    to.height = (from.height + 2 * l->padding - l->kernel_height) / l->stride + 1;
    to.width = (from.width + 2 * l->padding - l->kernel_width) / l->stride + 1;
    to.pool = 1;
    to.pixels = 0;
    l->leak = below(2) ? ECC_LEAK_ONE / 2 : (int32_t)below(ECC_LEAK_ONE + 1);
    size_t outputs = (size_t)l->outputs;
    l->weight = put(m, outputs * (size_t)(from.channels * l->kernel_height * l->kernel_width), 0, 0);
    l->bias = put(m, outputs, -50, 100);
    l->theta = put(m, outputs, 1, from.pixels ? 20000 : 400);
    if (op == ECC_RESIDUAL) {
        l->gain = put(m, outputs, -3000, 3000);
        l->shortcut_gain = put(m, outputs, -3000, 3000);
        l->shift = (int32_t)below(13);
        l->shortcut_stride = l->stride;
        l->shortcut_kernel = bare ? 0 : 1;
        if (!bare)
            l->shortcut_weight = put(m, outputs * (size_t)from.channels, 0, 0);
    }
    return to;
}

static struct shape add_pool(struct made *m, struct shape from, int op)
{
    struct ecc_layer *l = m->layers + m->program.layer_count;
    l->op = op;
    l->input = l->shortcut = m->program.layer_count++ - 1;
    l->stride = 2;
    from.height /= 2;
    from.width /= 2;
    if (op == ECC_AVERAGE_POOL)
        from.pool = 2;
    return from;
}

static void make_program(struct made *m)
{
    memset(m, 0, sizeof *m - sizeof m->blob);
    struct shape at = {some_channels(), 1 + (int32_t)below(9), 1 + (int32_t)below(below(2) ? 9 : 20), 1, (int32_t)below(2)};
    if (at.pixels)
        at.channels = 1 + (int32_t)below(3);
    m->program.layers = m->layers;
    m->program.blob = m->blob;
    m->program.pixels = at.pixels;
    int32_t shape[4] = {1 + (int32_t)below(below(4) ? 5 : 16), at.channels, at.height, at.width};
    memcpy(m->program.shape, shape, sizeof shape);
    for (uint32_t more = 1 + below(3); more > 0; more--) {
        int even = at.height % 2 == 0 && at.width % 2 == 0 && at.pool == 1;
        if (even && below(2))
            at = add_pool(m, at, at.pixels || below(2) ? ECC_MAX_POOL : ECC_AVERAGE_POOL);
        at = add_neurons(m, at, !at.pixels && at.pool == 1 && below(3) == 0 ? ECC_RESIDUAL : ECC_CONV);
    }
    m->output_bytes = (size_t)(shape[0] * at.channels * at.height * at.width);
    if (below(2)) {
        at = add_neurons(m, at, ECC_READOUT);
        m->output_bytes = (size_t)at.channels * 4;
    }
}

/* Some numbers of a program become others: small ones, large ones, or random ones. */
static void spoil(struct made *m)
{
    static const int32_t odd[] = {0, -1, 1, 2, 3, 7, 64, 4096, 4097, 65535, 65536, INT32_MAX, INT32_MIN};
    for (uint32_t more = 1 + below(2); more > 0; more--) {
        int32_t number = below(3) ? odd[below(sizeof odd / sizeof odd[0])] : (int32_t)(below(40) - 8);
        struct ecc_layer *l = m->layers + below((uint32_t)m->program.layer_count);
        uint64_t *places[] = {&l->weight, &l->bias, &l->theta, &l->gain, &l->shortcut_weight, &l->shortcut_gain};
        int32_t *numbers = &l->op;
        switch (below(5)) {
        case 0:
            m->program.shape[below(4)] = number;
            break;
        case 1:
            *places[below(6)] = below(2) ? (uint64_t)(int64_t)number : m->program.blob_bytes - below(80);
            break;
        case 2:
            m->program.blob_bytes = below((uint32_t)m->program.blob_bytes + 1);
            break;
        default:
            numbers[below(13)] = number;
        }
    }
    if (below(8) == 0)
        m->program.layer_count = (int32_t)below(ECC_MAX_LAYERS + 20) - 5;
    if (m->program.layer_count > MAX_NODES)
        m->program.layer_count = MAX_NODES;
    if (below(8) == 0)
        m->program.pixels = !m->program.pixels;
}

/* ---- runs ---- */

struct loaded {
    void *arena;
    size_t bytes;
};

/* The program in an arena of just its size; the arena is NULL if it was refused. */
static struct loaded load(struct made *m, int isa, int round)
{
    struct loaded l = {NULL, 0};
    uint8_t *blob = room(m->program.blob_bytes); /* gone after the load */
    memcpy(blob, m->blob, m->program.blob_bytes);
    struct ecc_program program = m->program;
    program.blob = blob;
    program.isa = isa;
    program.threads = 1 + (round + isa) % 4;
    int error = ecc_events_measure(&program, &l.bytes);
    expect(error == ECC_OK || error == ECC_ARGUMENT || error == ECC_ROOM, "an unknown error", round);
    if (error == ECC_OK && l.bytes <= MAX_ARENA) {
        l.arena = aligned_alloc(64, l.bytes);
        if (l.arena == NULL)
            exit(2);
        memset(l.arena, 0xa5, l.bytes);
        expect(ecc_events_load(&program, l.arena, l.bytes - 1) == ECC_ROOM, "room where there is none", round);
        expect(ecc_events_load(&program, l.arena, l.bytes) == ECC_OK, "no room in what was measured", round);
    }
    free(blob);
    return l;
}

/* A frame, or spikes; `hostile`: spikes of any byte. */
static uint8_t *input_of(const struct made *m, int still, int hostile, size_t *bytes)
{
    const int32_t *shape = m->program.shape;
    uint32_t rate = below(4) ? below(101) : below(2) * 100;
    *bytes = (size_t)(shape[1] * shape[2]) * (size_t)shape[3] * (still ? 1 : (size_t)shape[0]);
    uint8_t *input = room(*bytes);
    for (size_t i = 0; i < *bytes; i++)
        input[i] = (uint8_t)(m->program.pixels || hostile ? below(256) : below(100) < rate);
    return input;
}

/* All steps, in calls of `part` steps; the sums of a readout are added up. */
static void run(struct made *m, struct loaded l, const uint8_t *input, size_t bytes, int still, int part, uint8_t *out,
                int round)
{
    int steps = m->program.shape[0], readout = m->layers[m->program.layer_count - 1].op == ECC_READOUT;
    size_t of_step = m->program.pixels ? 0 : bytes / (size_t)steps, out_step = m->output_bytes / (size_t)steps;
    memset(out, 0, m->output_bytes);
    for (int start = 0; start < steps; start += part) {
        int count = steps - start < part ? steps - start : part;
        const uint8_t *from = m->program.pixels ? input : input + (size_t)start * of_step;
        size_t in = m->program.pixels ? bytes : (size_t)count * of_step;
        size_t size = readout ? m->output_bytes : (size_t)count * out_step;
        uint8_t *exact = room(in), *result = room(size);
        memcpy(exact, from, in);
        int error = ecc_events_run(l.arena, l.bytes, exact, in, start, count, result, size);
        expect(error == ECC_OK, still ? "a still frame did not run" : "did not run", round);
        for (size_t i = 0; readout && i < size / 4; i++) {
            uint32_t sum, more;
            memcpy(&sum, out + 4 * i, 4);
            memcpy(&more, result + 4 * i, 4);
            sum += more;
            memcpy(out + 4 * i, &sum, 4);
        }
        if (!readout)
            memcpy(out + (size_t)start * out_step, result, size);
        free(exact);
        free(result);
    }
}

/* Does this processor have the instruction set? */
static int has(int isa)
{
    int found;
    return ecc_events_isa(isa, &found) == ECC_OK;
}

static void sound(struct made *m, int round)
{
    size_t bytes;
    int still = m->program.pixels && below(2), part = 1 + (int)below((uint32_t)m->program.shape[0]);
    uint8_t *input = input_of(m, still, 0, &bytes), *first = room(m->output_bytes), *other = room(m->output_bytes);
    for (int isa = ECC_BASELINE; isa <= ECC_AVX512VNNI; isa++) {
        if (!has(isa))
            continue;
        struct loaded l = load(m, isa, round);
        expect(l.arena != NULL, "a sound program was refused", round);
        run(m, l, input, bytes, still, m->program.shape[0], isa == ECC_BASELINE ? first : other, round);
        expect(isa == ECC_BASELINE || memcmp(first, other, m->output_bytes) == 0, "other bits on this processor", round);
        run(m, l, input, bytes, still, part, other, round);
        expect(memcmp(first, other, m->output_bytes) == 0, "other bits in parts", round);
        expect(ecc_events_run(l.arena, l.bytes, input, 17 * bytes + 1, 0, m->program.shape[0], other, m->output_bytes) ==
                   ECC_ARGUMENT, "took an input of another size", round);
        expect(ecc_events_run(l.arena, l.bytes, input, bytes, 1, m->program.shape[0], other, m->output_bytes) ==
                   ECC_ARGUMENT, "took a step that is not there", round);
        uint64_t spent[MAX_NODES + 1];
        size_t layers = (size_t)m->program.layer_count;
        expect(ecc_events_profile(l.arena, l.bytes, input, bytes, 0, m->program.shape[0], other, m->output_bytes, spent,
                                  layers + 1) == ECC_ARGUMENT, "took times of a layer that is not there", round);
        expect(ecc_events_profile(l.arena, l.bytes, input, bytes, 0, m->program.shape[0], other, m->output_bytes, spent,
                                  layers) == ECC_OK, "took no times", round);
        expect(memcmp(first, other, m->output_bytes) == 0, "other bits with times", round);
        free(l.arena);
    }
    add_to_digest(first, m->output_bytes);
    free(input);
    free(first);
    free(other);
}

static void wild(struct made *m, int round)
{
    int isa = 1 + (int)below(ECC_AVX512VNNI);
    spoil(m);
    struct loaded l = load(m, has(isa) ? isa : 0, round);
    const int32_t *shape = m->program.shape;
    if (l.arena == NULL || (size_t)shape[1] * (size_t)shape[2] * (size_t)shape[3] > MAX_ARENA / 16) {
        free(l.arena);
        return;
    }
    size_t bytes, guesses[] = {0, 1, 4, m->output_bytes, 16, 64};
    uint8_t *input = input_of(m, m->program.pixels && below(2), 1, &bytes);
    for (size_t i = 0; i < sizeof guesses / sizeof guesses[0]; i++) {
        uint8_t *out = room(guesses[i]);
        int error = ecc_events_run(l.arena, l.bytes, input, bytes, 0, m->program.shape[0], out, guesses[i]);
        expect(error == ECC_OK || error == ECC_ARGUMENT, "an unknown error", round);
        free(out);
    }
    free(input);
    free(l.arena);
}

/* Rows of one weight each, so that every sum is a number of events; or an event that is not in the table. */
static void limit(int round)
{
    uint32_t row = 32 * (1 + below(9)), rows = 1 + below(20), count = below(700), rounds = below(3);
    uint32_t length = 1 + below(300);
    int8_t *weights = (int8_t *)room((size_t)rows * row);
    uint32_t *events = (uint32_t *)(void *)room(count * sizeof *events);
    int32_t *sums = (int32_t *)(void *)room(row * sizeof *sums);
    memset(weights, 1, (size_t)rows * row);
    for (uint32_t i = 0; i < count; i++)
        events[i] = row * below(rows);
    for (int isa = ECC_BASELINE; isa <= ECC_AVX512VNNI; isa++) {
        if (!has(isa))
            continue;
        int error = ecc_events_limit(isa, weights, (size_t)rows * row, row, events, count, length, rounds, sums);
        expect(error == ECC_OK, "a sound list was refused", round);
        uint32_t total = 0;
        for (uint32_t o = 0; o < row; o++)
            total += (uint32_t)sums[o];
        /* the weights of a unit lie in pairs, of which the lower one has 128 added: 1 there stands for -127 */
        uint32_t unit = isa >= ECC_AVX512 ? 64 : isa >= ECC_AVX2 ? 32 : 16, low = row / unit * unit / 2;
        expect(total == count * rounds * (row - 128 * low), "another sum", round);
        if (count > 0) {
            uint32_t kept = events[count - 1];
            events[count - 1] = rows * row - row + 1 + below(100);
            expect(ecc_events_limit(isa, weights, (size_t)rows * row, row, events, count, length, rounds, sums) ==
                       ECC_ARGUMENT, "took an event outside of the table", round);
            events[count - 1] = kept;
        }
    }
    free(weights);
    free(events);
    free(sums);
}

int main(void)
{
    static struct made m;
    for (int round = 0; round < ROUNDS; round++) {
        state = 88172645463325252u + (uint64_t)round; /* the same rounds on every processor */
        for (int skipped = 0; skipped < 8; skipped++)
            below(1);
        make_program(&m);
        if (round % 3 == 0)
            sound(&m, round);
        else
            wild(&m, round);
    }
    for (int round = 0; round < ROUNDS / 10; round++)
        limit(round);
    printf("event engine: %d rounds, bits %016llx\n", ROUNDS, (unsigned long long)digest);
    expect(ROUNDS != 20000 || digest == BITS, "other bits than on other processors", ROUNDS);
    return 0;
}
