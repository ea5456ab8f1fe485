/* The event engine: integer spiking layers at a cost that follows the spikes, unless they fire so densely that all
 * inputs are multiplied (events_dense.h).
 *
 * A program is a list of layers. It is laid out in one block of memory, the arena, which the caller gives: measure,
 * load, then run it on as many frames as wanted. model/ecc_model/reference.py says what the layers compute.
 *
 * Spikes are bits: for each step and position the channels of a map, the lowest bit first, in whole 64-bit words.
 * Weights are rows of bytes, one for each input of a window, the output channels side by side: what a spike adds to the
 * sums of a position is one row. Places in the arena are offsets from its start.
 */
#ifndef ECC_EVENTS_H
#define ECC_EVENTS_H

#include "native.h"

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "bytes, words and vectors share memory here: little endian only"
#endif

#define ECC_MAX_LAYERS 256
#define ECC_MAX_STEPS 16
#define ECC_MAX_SIDE 4096
#define ECC_MAX_CHANNELS 65535
#define ECC_MAX_THREADS 64
#define ECC_LEAK_ONE (1 << 15)  /* leaks are in units of 2^-15 */
#define ECC_SLACK 64            /* numbers that may be read or written behind the end of a list or of cells */
#define ECC_STREAMS(steps) (((steps) * 3 + 1) / 2) /* lists of events at once: three for two steps */

/* Instruction sets, the better the higher; 0: the best that the processor has. VNNI: products of bytes. */
enum { ECC_BASELINE = 1, ECC_AVX2, ECC_AVXVNNI, ECC_AVX512, ECC_AVX512VNNI };

enum { ECC_CONV = 1, ECC_RESIDUAL, ECC_MAX_POOL, ECC_AVERAGE_POOL, ECC_READOUT };

/* One layer, as a caller describes it. `input` and `shortcut` are the indices of earlier layers, -1 is the program's
 * input. Offsets count bytes of the blob: weights int8 (outputs, channels, kernel_height, kernel_width), vectors int32
 * (outputs). A fully connected layer is a convolution whose kernel covers the map; the size of a pool is its stride; a
 * residual whose shortcut_kernel is 0 adds the spikes of `shortcut` as they are. */
struct ecc_layer {
    int32_t op, input, outputs, kernel_height, kernel_width, stride, padding, leak;
    int32_t shortcut, shortcut_kernel, shortcut_stride, shortcut_padding, shift;
    uint64_t weight, bias, theta, shortcut_weight, gain, shortcut_gain;
};

/* `shape`: steps, channels, height, width of the input; `pixels`: it is a frame of bytes, else spikes; `threads`: how
 * many share the rows of a map. */
struct ecc_program {
    const struct ecc_layer *layers;
    const uint8_t *blob;
    size_t blob_bytes;
    int32_t layer_count, pixels, shape[4], isa, threads;
};

/* The instruction set that `wanted` stands for; ECC_ARGUMENT if this processor does not have it. */
ECC_API int ecc_events_isa(int wanted, int *found);

/* Bytes of the arena that the program needs. */
ECC_API int ecc_events_measure(const struct ecc_program *program, size_t *bytes);

/* Lays the program out in `arena`, which starts at a multiple of 64; the blob is not needed any more then. */
ECC_API int ecc_events_load(const struct ecc_program *program, void *arena, size_t bytes);

/* Runs `count` steps from step `start` on; membranes stay from call to call, and step 0 starts from rest.
 * Input: a frame uint8 (height, width, channels) for all steps, or (steps, height, width, channels), or spikes as bytes
 * 0 and 1 (count, channels, height, width). Output: spikes in the same form, or of a readout int32 sums over the steps
 * of this call. One call at a time in an arena. */
ECC_API int ecc_events_run(void *arena, size_t bytes, const uint8_t *input, size_t input_bytes, int start, int count,
                           void *output, size_t output_bytes);

/* The same, and what each layer took, in nanoseconds: one number for each layer of the program. */
ECC_API int ecc_events_profile(void *arena, size_t bytes, const uint8_t *input, size_t input_bytes, int start,
                               int count, void *output, size_t output_bytes, uint64_t *spent, size_t layers);

/* The kernel's limit: adds up rows of `row` weights, which `events` name by their offsets, and does nothing else.
 * `length` events are one list, as a window has; all are added `rounds` times. sums: int32 (row), modulo 2^32. */
ECC_API int ecc_events_limit(int isa, const int8_t *weights, size_t bytes, uint32_t row, const uint32_t *events,
                             size_t count, uint32_t length, uint32_t rounds, int32_t *sums);

#endif
