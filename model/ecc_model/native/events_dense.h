/* Windows all of whose inputs are multiplied with their weights: those of the frame, and of maps that fire so densely
 * that this is faster than finding events.
 *
 * Inputs lie in cells, line by line, with their border of zeros. A build takes a group of CELLS at a time, which is
 * four bytes: four cells of 8 bits where the processor has products of bytes, else two of 16 (for the frame alone). */

/* Windows whose sums stay in registers together: TILE of them, BLOCK channels of each. */
#define TILE (VECTOR == 64 ? 8 : VECTOR == 32 ? 4 : 2)
#define SUMS (VECTOR == 16 ? 4 : 2) /* vectors */
#define BLOCK (SUMS * VECTOR / 4)

#if CELLS == 4
typedef uint8_t cell;

/* Eight bits, the lowest first, in eight cells: 0 or 1. */
inline_ void spread(uint8_t bits, cell *to)
{
    uint64_t own = bits * 0x0101010101010101u & 0x8040201008040201u; /* of byte k, bit k */
    uint64_t ones = (own + 0x7f7f7f7f7f7f7f7fu) >> 7 & 0x0101010101010101u;
    memcpy(to, &ones, 8);
}
#else
typedef int16_t cell;
#endif

/* The inputs of a step as cells; the border is zero from the start. */
inline_ void fill_cells(const struct ecc_call *call, const struct ecc_node *node, uint32_t t)
{
    const struct ecc_synapses *s = &node->main;
    const struct ecc_map *map = &s->from;
    const struct ecc_dense *d = &node->dense;
    cell *line = (cell *)(void *)(call->arena + d->cells) + t * d->step + s->padding * (d->line + d->position);
    if (map->pixels) {
        const uint8_t *frame = ecc_frame(call, node) + t * map->step_bytes;
        size_t across = (size_t)map->width * map->channels;
        for (uint32_t y = 0; y < map->height; y++, line += d->line, frame += across)
            for (size_t x = 0; x < across; x++)
                line[x] = frame[x];
        return;
    }
#if CELLS == 4
    const unsigned char *bits = call->arena + map->bits + t * map->step_bytes;
    for (uint32_t y = 0; y < map->height; y++, line += d->line) {
        cell *to = line;
        for (uint32_t x = 0; x < map->width; x++, bits += map->position_bytes, to += d->position)
            for (uint32_t c = 0; c < d->position; c += 8)
                spread(bits[c / 8], to + c);
    }
#endif
}

/* One frame for all steps; its sums are kept where the next call can use them, and need no new ones then. */
inline_ int is_still(const struct ecc_call *call, const struct ecc_node *node)
{
    return node->main.from.pixels && call->still;
}

inline_ int is_kept(const struct ecc_call *call, const struct ecc_node *node)
{
    return is_still(call, node) && call->count < call->plan->steps;
}

inline_ uint32_t steps_to_sum(const struct ecc_call *call, const struct ecc_node *node)
{
    return !is_still(call, node) ? call->count : is_kept(call, node) && call->start > 0 ? 0 : 1;
}

/* x[p] = base + the sums of window p, for BLOCK channels; the next window is `apart` cells on, its sums x_apart. */
inline_ void multiply(int windows, const struct ecc_node *node, const int8_t *weights, const cell *from, size_t apart,
                      const int32_t *base, int32_t *x, size_t x_apart)
{
    const struct ecc_dense *d = &node->dense;
    uwide_v sums[TILE][SUMS];
    _Pragma("GCC unroll 8") for (int p = 0; p < windows; p++) {
        UNROLLED(SUMS) sums[p][k] = ((const uwide_v *)base)[k];
    }
    for (uint32_t y = 0; y < node->main.kernel_height; y++, from += d->line) {
        const cell *group = from;
        for (uint32_t g = 0; g < d->groups; g++, group += CELLS, weights += 4 * (size_t)node->row)
            _Pragma("GCC unroll 8") for (int p = 0; p < windows; p++) {
                int32_t cells;
                memcpy(&cells, group + (size_t)p * apart, 4);
                UNROLLED(SUMS) sums[p][k] = dot(sums[p][k], weights + k * VECTOR, cells);
            }
    }
    _Pragma("GCC unroll 8") for (int p = 0; p < windows; p++) {
        UNROLLED(SUMS) ((uwide_v *)(x + (size_t)p * x_apart))[k] = sums[p][k];
    }
}

/* Is it faster to multiply all inputs of a window than to go through lists of `events`? In products of a vector: an
 * event costs 3/4 of what a group of cells does, and to make lists for a window, where there is anything to list,
 * FINDING products (measured with AVX-512). */
#ifndef FINDING
#define FINDING 138.0
#endif
inline_ int is_dense(const struct ecc_node *node, double events)
{
    double products = 2.0 * node->row / LANES, groups = (double)node->main.kernel_height * node->dense.groups;
    return (groups - 0.75 * events) * products < FINDING * (events < 1 ? events : 1);
}

/* The call's steps of `windows` windows, the first at `position`; the first `fired` of them have fired before. */
inline_ void windows_of_steps(int windows, const struct ecc_call *call, const struct ecc_node *node, uint64_t position,
                              const cell *from, uint32_t fired)
{
    int32_t x[ECC_MAX_STEPS][TILE * BLOCK] __attribute__((aligned(64)));
    const struct ecc_dense *d = &node->dense;
    int still = is_still(call, node), kept = is_kept(call, node);
    size_t apart = (size_t)node->main.stride * d->position, sums_apart = kept ? node->row : BLOCK;
    uint32_t steps = steps_to_sum(call, node);
    for (uint32_t at = 0; at < node->row; at += BLOCK) {
        int32_t *sums = kept ? ecc_numbers(call, d->still) + position * node->row + at : x[0];
        const int8_t *weights = (const int8_t *)(call->arena + d->weight) + 4 * (size_t)at;
        const int32_t *base = ecc_numbers(call, node->bias) + at;
        for (uint32_t t = 0; t < steps; t++)
            multiply(windows, node, weights, from + t * d->step, apart, base, sums + t * TILE * BLOCK, sums_apart);
        for (uint32_t p = fired; p < (uint32_t)windows; p++)
            fire(call, node, position + p, at, BLOCK, sums + p * sums_apart, still ? 0 : TILE * BLOCK);
    }
}

/* The last tile of a line begins with windows that were there before; lines shorter than a tile go window by window. */
static void multiply_and_fire(const struct ecc_call *call, const struct ecc_node *node, uint32_t low, uint32_t high)
{
    const struct ecc_dense *d = &node->dense;
    size_t apart = (size_t)node->main.stride * d->position, down = (size_t)node->main.stride * d->line;
    const cell *line = (const cell *)(const void *)(call->arena + d->cells) + low * down;
    uint32_t width = node->to.width;
    uint64_t position = (uint64_t)low * width;
    for (uint32_t oy = low; oy < high; oy++, position += width, line += down) {
        if (width < TILE)
            for (uint32_t x = 0; x < width; x++)
                windows_of_steps(1, call, node, position + x, line + x * apart, 0);
        else
            for (uint32_t x = 0, next; x < width; x = next) {
                next = x + TILE;
                uint32_t fired = next > width ? next - width : 0;
                windows_of_steps(TILE, call, node, position + x - fired, line + (x - fired) * apart, fired);
            }
    }
}
