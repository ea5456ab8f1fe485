/* The kernel, compiled once for each instruction set. The file that includes this one has defined VECTOR, FIRE and
 * CELLS, included events_vectors.h, and has these functions:
 *
 *   expand16         appends the places of sixteen bits to a list of events
 *   read_half        LANES weights as 16-bit numbers
 *   widen_low, _high half a vector of 16-bit sums in 32 bits
 *   spike            compares FIRE neurons with their thresholds: bits to memory, those that spiked to zero
 *   dot              adds VECTOR / 4 sums of CELLS products, see events_dense.h
 */
#include "events_lists.h"
#include "events_sums.h"
#include "events_neurons.h"
#include "events_dense.h"

static void convolution(const struct ecc_call *call, const struct ecc_node *node, uint32_t low, uint32_t high)
{
    steps_of_sums x;
    struct lists l;
    open_lists(&l, call, &node->main, node->row, 0, low);
    int sparse = call->count == call->plan->steps && !l.inverted;
    uint64_t position = (uint64_t)low * node->to.width;
    for (uint32_t oy = low; oy < high; oy++) {
        if (!gather_row(call, &l, oy) && sparse) {
            copy_silence(call, node, position, node->to.width);
            position += node->to.width;
            continue;
        }
        for (uint32_t ox = 0; ox < node->to.width; ox++, position++) {
            struct window w = window_of(&l, ox);
            if (sparse && events_in(&l, w) == 0) {
                copy_silence(call, node, position, 1);
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
    open_lists(&l, call, &node->main, node->row, 0, 0);
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

static void residual(const struct ecc_call *call, const struct ecc_node *node, uint32_t low, uint32_t high)
{
    steps_of_sums x, y;
    struct lists main, shortcut;
    const int32_t *zeros = ecc_numbers(call, node->zeros);
    int bare = node->shortcut.kernel_height == 0;
    uint64_t position = (uint64_t)low * node->to.width;
    open_lists(&main, call, &node->main, node->row, 0, low);
    if (!bare)
        open_lists(&shortcut, call, &node->shortcut, node->row, 1, low);
    for (uint32_t oy = low; oy < high; oy++) {
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

static int prepare(const struct ecc_call *call, const struct ecc_node *node)
{
    struct lists l;
    if (!node->dense.weight)
        return 0;
    if (!node->main.from.pixels && !is_dense(node, open_lists(&l, call, &node->main, node->row, 0, 0)))
        return 0;
    for (uint32_t t = 0; t < steps_to_sum(call, node); t++)
        fill_cells(call, node, t);
    return 1;
}

static void rows(const struct ecc_call *call, const struct ecc_node *node, int dense, uint32_t low, uint32_t high)
{
    if (dense)
        multiply_and_fire(call, node, low, high);
    else if (node->op == ECC_READOUT)
        readout(call, node);
    else if (node->op == ECC_RESIDUAL)
        residual(call, node, low, high);
    else
        convolution(call, node, low, high);
}
