/* Windows all of whose inputs are multiplied with their weights: those of the frame, and of maps that fire so densely
 * that this is faster than finding events.
 *
 * Inputs lie in cells, line by line, with their border of zeros. A build takes CELLS of them at a time, four bytes:
 * four bytes where the processor has products of bytes, else two 16-bit numbers. */

#define TILE (VECTOR == 64 ? 8 : 4) /* positions whose sums stay in registers together, LANES channels of each */

#if CELLS == 4
typedef uint8_t cell;
#else
typedef int16_t cell;
#endif
typedef uint8_t bytes8_v __attribute__((vector_size(8), may_alias));
typedef cell cells8_v __attribute__((vector_size(8 * sizeof(cell)), aligned(1), may_alias));

/* Eight bits, the lowest first, in eight cells: 0 or 1. */
inline_ void spread(uint8_t bits, cell *to)
{
    uint64_t own = bits * 0x0101010101010101u & 0x8040201008040201u; /* of byte k, bit k */
    uint64_t ones = (own + 0x7f7f7f7f7f7f7f7fu) >> 7 & 0x0101010101010101u;
    bytes8_v bytes;
    memcpy(&bytes, &ones, 8);
    *(cells8_v *)to = __builtin_convertvector(bytes, cells8_v);
}

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
    const unsigned char *bits = call->arena + map->bits + t * map->step_bytes;
    for (uint32_t y = 0; y < map->height; y++, line += d->line) {
        cell *to = line;
        for (uint32_t x = 0; x < map->width; x++, bits += map->position_bytes, to += d->position)
            for (uint32_t c = 0; c < d->position; c += 8)
                spread(bits[c / 8], to + c);
    }
}

/* x[p] = base + the sums of window p, for LANES channels; the next window is `apart` cells further, its sums x_apart. */
inline_ void multiply(int windows, const struct ecc_node *node, const int8_t *weights, const cell *from, size_t apart,
                      const int32_t *base, int32_t *x, size_t x_apart)
{
    const struct ecc_dense *d = &node->dense;
    uwide_v sums[TILE][2];
    _Pragma("GCC unroll 8") for (int p = 0; p < windows; p++) {
        UNROLLED(2) sums[p][k] = ((const uwide_v *)base)[k];
    }
    for (uint32_t y = 0; y < node->main.kernel_height; y++, from += d->line) {
        const cell *group = from;
        for (uint32_t g = 0; g < d->groups; g++, group += CELLS, weights += 4 * (size_t)node->row)
            _Pragma("GCC unroll 8") for (int p = 0; p < windows; p++) {
                int32_t cells;
                memcpy(&cells, group + (size_t)p * apart, 4);
                UNROLLED(2) sums[p][k] = dot(sums[p][k], weights + k * VECTOR, cells);
            }
    }
    _Pragma("GCC unroll 8") for (int p = 0; p < windows; p++) {
        UNROLLED(2)((uwide_v *)(x + (size_t)p * x_apart))[k] = sums[p][k];
    }
}

/* Is it faster to multiply all inputs of a window than to find those that fire, on average `events`? An event costs about
 * as much as a group of cells; to find events takes what FINDING more products do (measured with AVX-512). */
#define FINDING 130.0
inline_ int is_dense(const struct ecc_node *node, double events)
{
    double products = 2.0 * node->row / LANES, groups = (double)node->main.kernel_height * node->dense.groups;
    return (groups - events) * products < FINDING * (events < 1 ? events : 1);
}

static void multiply_and_fire(const struct ecc_call *call, const struct ecc_node *node)
{
    int32_t x[ECC_MAX_STEPS][TILE * LANES] __attribute__((aligned(64)));
    const struct ecc_dense *d = &node->dense;
    int still = node->main.from.pixels && call->still, kept = still && call->count < call->plan->steps;
    uint32_t steps = !still ? call->count : kept && call->start > 0 ? 0 : 1; /* sums of a still frame serve all steps */
    size_t apart = (size_t)node->main.stride * d->position;
    for (uint32_t t = 0; t < steps; t++)
        fill_cells(call, node, t);
    for (uint32_t oy = 0; oy < node->to.height; oy++)
        for (uint32_t ox = 0, windows; ox < node->to.width; ox += windows) {
            uint64_t position = (uint64_t)oy * node->to.width + ox;
            const cell *from = (const cell *)(const void *)(call->arena + d->cells)
                + (uint64_t)oy * node->main.stride * d->line + ox * apart;
            windows = node->to.width - ox >= TILE ? TILE : 1;
            for (uint32_t at = 0; at < node->row; at += LANES) {
                int32_t *sums = kept ? ecc_numbers(call, d->still) + position * node->row + at : x[0];
                size_t sums_apart = kept ? node->row : LANES;
                const int8_t *weights = (const int8_t *)(call->arena + d->weight) + 4 * (size_t)at;
                const int32_t *base = ecc_numbers(call, node->bias) + at;
                for (uint32_t t = 0; t < steps; t++) {
                    if (windows == TILE)
                        multiply(TILE, node, weights, from + t * d->step, apart, base, sums + t * TILE * LANES, sums_apart);
                    else
                        multiply(1, node, weights, from + t * d->step, apart, base, sums + t * TILE * LANES, sums_apart);
                }
                for (uint32_t p = 0; p < windows; p++)
                    fire(call, node, position + p, at, LANES, sums + p * sums_apart, still ? 0 : TILE * LANES);
            }
        }
}
