/* From the description of a program to its layout in an arena: every size and place is checked here, and only here. */
#include "events_plan.h"

#include <string.h>

#if ECC_GUARD
#include <sanitizer/asan_interface.h>
#endif

#define LIMIT ((uint64_t)1 << 40) /* of an arena's bytes, far below where sums of sizes could overflow */
#define TRY(call)                 \
    do {                          \
        int error = (call);       \
        if (error != ECC_OK)      \
            return error;         \
    } while (0)

/* ---- sizes ---- */

static uint64_t place(struct ecc_plan *plan, uint64_t bytes)
{
    uint64_t at = plan->bytes;
    plan->bytes += (bytes + 63) / 64 * 64 + ECC_GUARD;
    if (ECC_GUARD) {
        plan->guard[plan->guards].from = at + bytes;
        plan->guard[plan->guards++].to = plan->bytes;
    }
    return at;
}

static void poison_guards(const struct ecc_plan *plan, unsigned char *arena)
{
#if ECC_GUARD
    for (uint32_t i = 0; i < plan->guards; i++)
        ASAN_POISON_MEMORY_REGION(arena + plan->guard[i].from, plan->guard[i].to - plan->guard[i].from);
#else
    (void)plan, (void)arena;
#endif
}

static int inside(const struct ecc_program *program, uint64_t offset, uint64_t bytes)
{
    return bytes <= program->blob_bytes && offset <= program->blob_bytes - bytes;
}

static int between(int64_t value, int64_t low, int64_t high)
{
    return value >= low && value <= high;
}

static struct ecc_map spike_map(struct ecc_plan *plan, uint32_t channels, uint32_t height, uint32_t width)
{
    struct ecc_map map = {.channels = channels, .height = height, .width = width, .pool = 1};
    map.position_bytes = ((uint64_t)channels + 63) / 64 * 8;
    map.step_bytes = map.position_bytes * height * width;
    map.bits = place(plan, map.step_bytes * plan->steps);
    return map;
}

static struct ecc_map pixel_map(uint32_t channels, uint32_t height, uint32_t width)
{
    struct ecc_map map = {.channels = channels, .height = height, .width = width, .pool = 1, .pixels = 1};
    map.position_bytes = channels;
    map.step_bytes = (uint64_t)channels * height * width;
    return map;
}

/* Weights at `weight` of the blob, over s->from; `size` becomes height and width of the map behind them. */
static int plan_synapses(const struct ecc_program *program, struct ecc_plan *plan, const struct ecc_node *node,
                         struct ecc_synapses *s, uint64_t weight, uint32_t size[2])
{
    int64_t height = (int64_t)s->from.height + 2 * (int64_t)s->padding - s->kernel_height;
    int64_t width = (int64_t)s->from.width + 2 * (int64_t)s->padding - s->kernel_width;
    uint64_t taps = (uint64_t)s->kernel_height * s->kernel_width, inputs = taps * s->from.channels;
    if (height < 0 || width < 0 || !inside(program, weight, inputs * node->outputs))
        return ECC_ARGUMENT;
    size[0] = (uint32_t)(height / s->stride + 1);
    size[1] = (uint32_t)(width / s->stride + 1);
    /* events are 32-bit places of rows in a strip of the map */
    if (((uint64_t)s->from.width + s->kernel_width) * s->kernel_height * s->from.channels * node->row > INT32_MAX)
        return ECC_ROOM;
    if (!s->from.pixels) {
        s->weight = place(plan, inputs * node->row);
        s->taps = place(plan, taps * node->row * 4);
        s->full = place(plan, (uint64_t)plan->threads * node->row * 4);
    }
    return ECC_OK;
}

static int plan_shortcut(const struct ecc_program *program, struct ecc_plan *plan, struct ecc_node *node,
                         const struct ecc_layer *layer, const uint32_t size[2])
{
    struct ecc_synapses *s = &node->shortcut;
    uint64_t vector = (uint64_t)node->outputs * 4;
    uint32_t other[2] = {s->from.height, s->from.width};
    if (!between(layer->shortcut_kernel, 0, ECC_MAX_SIDE) || !between(layer->shortcut_stride, 1, ECC_MAX_SIDE)
        || !between(layer->shortcut_padding, 0, ECC_MAX_SIDE) || !between(layer->shift, 0, 31) || s->from.pixels
        || !inside(program, layer->gain, vector) || !inside(program, layer->shortcut_gain, vector))
        return ECC_ARGUMENT;
    s->kernel_height = s->kernel_width = (uint32_t)layer->shortcut_kernel;
    s->stride = (uint32_t)layer->shortcut_stride;
    s->padding = (uint32_t)layer->shortcut_padding;
    if (s->kernel_height)
        TRY(plan_synapses(program, plan, node, s, layer->shortcut_weight, other));
    else if (s->from.pool != 1 || s->from.channels != node->outputs)
        return ECC_ARGUMENT;
    node->shift = layer->shift;
    node->gain = place(plan, (uint64_t)node->row * 4);
    node->shortcut_gain = place(plan, (uint64_t)node->row * 4);
    node->zeros = place(plan, (uint64_t)node->row * 4);
    return other[0] == size[0] && other[1] == size[1] ? ECC_OK : ECC_ARGUMENT;
}

static uint64_t dense_bytes(const struct ecc_plan *plan, const struct ecc_dense *d, uint32_t cells)
{
    return (plan->steps * d->step + ECC_SLACK) * 4 / cells;
}

/* Room to multiply all inputs: of the frame always, of spikes where the processor may be faster that way. */
static void plan_dense(struct ecc_plan *plan, struct ecc_node *node)
{
    const struct ecc_synapses *s = &node->main;
    struct ecc_dense *d = &node->dense;
    uint32_t cells = ecc_kernel_of(plan->isa)->cells;
    uint64_t height = s->from.height + 2 * (uint64_t)s->padding, width = s->from.width + 2 * (uint64_t)s->padding;
    if (!s->from.pixels && (cells < 4 || node->op != ECC_CONV || s->from.pool > 1 || node->to.width < DENSE_WIDTH))
        return;
    d->position = s->from.pixels ? s->from.channels : (s->from.channels + 7) / 8 * 8;
    d->groups = (s->kernel_width * d->position + cells - 1) / cells;
    d->line = width * d->position;
    d->step = height * d->line;
    d->weight = place(plan, (uint64_t)s->kernel_height * d->groups * node->row * 4);
    d->cells = place(plan, dense_bytes(plan, d, cells));
    if (s->from.pixels)
        d->still = place(plan, (uint64_t)node->to.height * node->to.width * node->row * 4);
}

static int plan_neurons(const struct ecc_program *program, struct ecc_plan *plan, struct ecc_node *node,
                        const struct ecc_layer *layer)
{
    struct ecc_synapses *s = &node->main;
    int readout = layer->op == ECC_READOUT;
    uint32_t size[2], lanes = ecc_kernel_of(plan->isa)->lanes, unit = lanes < 16 ? 16 : lanes;
    if (!between(layer->outputs, 1, ECC_MAX_CHANNELS) || !between(layer->kernel_height, 1, ECC_MAX_SIDE)
        || !between(layer->kernel_width, 1, ECC_MAX_SIDE) || !between(layer->stride, 1, ECC_MAX_SIDE)
        || !between(layer->padding, 0, ECC_MAX_SIDE) || !between(layer->leak, 0, ECC_LEAK_ONE)
        || (s->from.pixels && layer->op != ECC_CONV))
        return ECC_ARGUMENT;
    node->outputs = (uint32_t)layer->outputs;
    node->row = (node->outputs + unit - 1) / unit * unit; /* whole pieces of sixteen bits, too */
    node->leak = layer->leak;
    s->kernel_height = (uint32_t)layer->kernel_height;
    s->kernel_width = (uint32_t)layer->kernel_width;
    s->stride = (uint32_t)layer->stride;
    s->padding = (uint32_t)layer->padding;
    TRY(plan_synapses(program, plan, node, s, layer->weight, size));
    if (!inside(program, layer->bias, (uint64_t)node->outputs * 4)
        || (!readout && !inside(program, layer->theta, (uint64_t)node->outputs * 4)))
        return ECC_ARGUMENT;
    node->bias = place(plan, (uint64_t)node->row * 4);
    if (readout)
        return size[0] == 1 && size[1] == 1 ? ECC_OK : ECC_ARGUMENT;
    node->theta = place(plan, (uint64_t)node->row * 4);
    if (layer->op == ECC_RESIDUAL)
        TRY(plan_shortcut(program, plan, node, layer, size));
    uint64_t positions = (uint64_t)size[0] * size[1];
    node->to = spike_map(plan, node->outputs, size[0], size[1]);
    node->silent = place(plan, plan->steps * node->to.position_bytes);
    node->membrane = place(plan, positions * node->row * 4);
    plan_dense(plan, node);
    return ECC_OK;
}

static int plan_pool(struct ecc_plan *plan, struct ecc_node *node, const struct ecc_layer *layer)
{
    const struct ecc_map *from = &node->main.from;
    if (!between(layer->stride, 1, ECC_MAX_SIDE) || from->pool != 1)
        return ECC_ARGUMENT;
    uint32_t size = (uint32_t)layer->stride, height = from->height / size, width = from->width / size;
    if (from->height % size || from->width % size || (from->pixels && layer->op == ECC_AVERAGE_POOL))
        return ECC_ARGUMENT;
    node->main.stride = size;
    if (layer->op == ECC_AVERAGE_POOL) { /* the same spikes, summed up where they are read */
        node->to = *from;
        node->to.height = height;
        node->to.width = width;
        node->to.pool = size;
    } else if (from->pixels) {
        node->to = pixel_map(from->channels, height, width);
        node->to.bits = place(plan, node->to.step_bytes * plan->steps);
    } else {
        node->to = spike_map(plan, from->channels, height, width);
    }
    return ECC_OK;
}

/* Lists of the events of kernel_height rows of the map, for each stream, and where each position's begin. */
static uint64_t list_bytes(const struct ecc_plan *plan, const struct ecc_synapses *s)
{
    uint64_t rows = (uint64_t)ECC_STREAMS(plan->steps) * s->kernel_height;
    return s->from.pixels ? 0 : (ecc_list_places(s) + s->from.width + 1) * rows * 4;
}

static int make_plan(const struct ecc_program *program, struct ecc_plan *plan)
{
    const int32_t *shape = program->shape;
    int isa;
    memset(plan, 0, sizeof *plan);
    TRY(ecc_events_isa(program->isa, &isa));
    if (!between(program->threads, 1, ECC_MAX_THREADS) || !between(program->layer_count, 1, ECC_MAX_LAYERS)
        || !between(shape[0], 1, ECC_MAX_STEPS)
        || !between(shape[1], 1, program->pixels ? 3 : ECC_MAX_CHANNELS) || !between(shape[2], 1, ECC_MAX_SIDE)
        || !between(shape[3], 1, ECC_MAX_SIDE))
        return ECC_ARGUMENT;
    plan->isa = (uint32_t)isa;
    plan->steps = (uint32_t)shape[0];
    plan->nodes = (uint32_t)program->layer_count;
    plan->threads = (uint32_t)program->threads;
    place(plan, sizeof *plan);
    for (unsigned byte = 0; byte < 256; byte++)
        for (uint8_t bit = 0; bit < 8; bit++)
            if (byte >> bit & 1)
                plan->byte.places[byte][plan->byte.count[byte]++] = bit;
    uint32_t channels = (uint32_t)shape[1], height = (uint32_t)shape[2], width = (uint32_t)shape[3];
    plan->input = program->pixels ? pixel_map(channels, height, width) : spike_map(plan, channels, height, width);
    for (int32_t i = 0; i < program->layer_count; i++) {
        const struct ecc_layer *layer = program->layers + i;
        struct ecc_node *node = plan->node + i;
        int pool = layer->op == ECC_MAX_POOL || layer->op == ECC_AVERAGE_POOL;
        if (!between(layer->op, ECC_CONV, ECC_READOUT) || !between(layer->input, -1, i - 1)
            || !between(layer->shortcut, -1, i - 1) || (layer->op == ECC_READOUT && i != program->layer_count - 1))
            return ECC_ARGUMENT;
        node->op = (uint32_t)layer->op;
        node->input = layer->input;
        node->main.from = layer->input < 0 ? plan->input : plan->node[layer->input].to;
        node->shortcut.from = layer->shortcut < 0 ? plan->input : plan->node[layer->shortcut].to;
        TRY(pool ? plan_pool(plan, node, layer) : plan_neurons(program, plan, node, layer));
        for (int which = 0; which < 2; which++) {
            uint64_t bytes = list_bytes(plan, which ? &node->shortcut : &node->main);
            plan->list_bytes[which] = bytes > plan->list_bytes[which] ? bytes : plan->list_bytes[which];
        }
        if (plan->bytes > LIMIT || plan->list_bytes[0] > LIMIT || plan->list_bytes[1] > LIMIT)
            return ECC_ROOM;
    }
    const struct ecc_node *last = plan->node + plan->nodes - 1;
    if (last->op != ECC_READOUT && (last->to.pixels || last->to.pool != 1))
        return ECC_ARGUMENT;
    for (int which = 0; which < 2; which++) {
        plan->list_bytes[which] = (plan->list_bytes[which] + 63) / 64 * 64;
        plan->lists[which] = place(plan, plan->threads * plan->list_bytes[which]);
        plan->strips[which] = place(plan, plan->threads * plan->list_bytes[which]);
    }
    return ECC_OK;
}

int ecc_events_measure(const struct ecc_program *program, size_t *bytes)
{
    struct ecc_plan plan;
    TRY(make_plan(program, &plan));
    *bytes = plan.bytes;
    return ECC_OK;
}

/* ---- contents ---- */

/* The channel whose weight is byte `b` of a row, and what is added to it: see DEFINE_ACCUMULATE. */
static uint32_t channel_at(uint32_t b, uint32_t row, uint32_t lanes, uint8_t *added)
{
    uint32_t start = b / (2 * lanes) * (2 * lanes), half = row - start < 2 * lanes, low = !half && b % 2 == 0;
    *added = low ? 128 : 0;
    return half ? b : start + (b - start) / 2 + (low ? 0 : lanes);
}

/* Rows of a tap lie together, taps column by column: the order of the events in a strip. */
static void load_rows(struct ecc_call *call, const struct ecc_node *node, const struct ecc_synapses *s,
                      const uint8_t *weight)
{
    size_t height = s->kernel_height, width = s->kernel_width, channels = s->from.channels, row = node->row;
    uint32_t lanes = ecc_kernel_of(call->plan->isa)->lanes;
    for (uint32_t b = 0; b < node->row; b++) {
        uint8_t added;
        uint32_t o = channel_at(b, node->row, lanes, &added);
        size_t first = o * channels * height * width;
        uint8_t *to = call->arena + s->weight + b;
        int32_t *tap = ecc_numbers(call, s->taps) + o;
        for (size_t x = 0; x < width; x++)
            for (size_t y = 0; y < height; y++, tap += row) {
                *tap = 0;
                for (size_t c = 0; c < channels; c++, to += row) {
                    uint8_t w = o < node->outputs ? weight[first + (c * height + y) * width + x] : 0;
                    *tap += (int8_t)w;
                    *to = (uint8_t)(w + added);
                }
            }
    }
}

/* Weights in the order of a window's cells, four bytes of them for each output. */
static void load_dense(struct ecc_call *call, const struct ecc_node *node, const uint8_t *weight)
{
    const struct ecc_synapses *s = &node->main;
    const struct ecc_dense *d = &node->dense;
    size_t height = s->kernel_height, width = s->kernel_width, channels = s->from.channels;
    uint32_t cells = ecc_kernel_of(call->plan->isa)->cells;
    int8_t *bytes = (int8_t *)call->arena + d->weight;
    int16_t *pairs = (int16_t *)(void *)bytes;
    memset(call->arena + d->cells, 0, dense_bytes(call->plan, d, cells));
    for (size_t y = 0; y < height; y++)
        for (size_t first = 0; first < (size_t)d->groups * cells; first += cells)
            for (uint32_t o = 0; o < node->row; o++)
                for (size_t i = first; i < first + cells; i++) {
                    size_t x = i / d->position, c = i % d->position;
                    int real = o < node->outputs && x < width && c < channels;
                    int8_t w = real ? (int8_t)weight[((o * channels + c) * height + y) * width + x] : 0;
                    if (cells == 4)
                        *bytes++ = w;
                    else
                        *pairs++ = w;
                }
}

static void load_vector(struct ecc_call *call, const struct ecc_node *node, uint64_t at, const uint8_t *from,
                        int32_t rest)
{
    int32_t *to = ecc_numbers(call, at);
    memcpy(to, from, (size_t)node->outputs * 4);
    for (uint32_t o = node->outputs; o < node->row; o++)
        to[o] = rest;
}

int ecc_events_load(const struct ecc_program *program, void *arena, size_t bytes)
{
    struct ecc_plan *plan = arena;
    if ((uintptr_t)arena % 64 != 0 || bytes < sizeof *plan)
        return ECC_ROOM;
    TRY(make_plan(program, plan));
    if (plan->bytes > bytes)
        return ECC_ROOM;
    poison_guards(plan, arena);
    struct ecc_call call = {.arena = arena, .plan = plan, .count = plan->steps};
    if (!plan->input.pixels)
        memset(call.arena + plan->input.bits, 0, plan->input.step_bytes * plan->steps);
    for (uint32_t i = 0; i < plan->nodes; i++) {
        const struct ecc_layer *layer = program->layers + i;
        const struct ecc_node *node = plan->node + i;
        if (node->op == ECC_MAX_POOL || node->op == ECC_AVERAGE_POOL)
            continue;
        if (node->dense.weight)
            load_dense(&call, node, program->blob + layer->weight);
        if (!node->main.from.pixels)
            load_rows(&call, node, &node->main, program->blob + layer->weight);
        load_vector(&call, node, node->bias, program->blob + layer->bias, 0);
        if (node->op == ECC_READOUT)
            continue;
        load_vector(&call, node, node->theta, program->blob + layer->theta, INT32_MAX); /* never fires */
        if (node->op == ECC_RESIDUAL) {
            if (node->shortcut.kernel_height)
                load_rows(&call, node, &node->shortcut, program->blob + layer->shortcut_weight);
            load_vector(&call, node, node->gain, program->blob + layer->gain, 0);
            load_vector(&call, node, node->shortcut_gain, program->blob + layer->shortcut_gain, 0);
            memset(ecc_numbers(&call, node->zeros), 0, (size_t)node->row * 4);
        }
        memset(call.arena + node->to.bits, 0, node->to.step_bytes * plan->steps);
        ecc_kernel_of(plan->isa)->silence(&call, node);
    }
    plan->magic = ECC_PLAN_MAGIC;
    return ECC_OK;
}
