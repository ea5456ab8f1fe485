/* What stands at the start of an arena: sizes and places of all that the event engine uses. */
#ifndef ECC_EVENTS_PLAN_H
#define ECC_EVENTS_PLAN_H

#include "events.h"

struct ecc_map { /* of spikes; behind an average pool, of their sums over blocks of pool x pool */
    uint64_t bits;                          /* place of the first step's */
    uint64_t step_bytes, position_bytes;
    uint32_t channels, height, width, pool; /* height and width count blocks */
    uint32_t pixels;                        /* 1: not spikes but bytes (height, width, channels) */
};

struct ecc_synapses { /* kernel_height 0: none */
    struct ecc_map from;
    uint32_t kernel_height, kernel_width, stride, padding;
    uint64_t weight; /* this and the next two: not for a layer on the frame, which has its weights in ecc_dense */
    uint64_t taps; /* int32 (kernel_width, kernel_height, row): the sum of each tap's rows */
    uint64_t full; /* int32 (threads, row): what a window in which all inputs fire would sum up to */
};

#ifndef DENSE_WIDTH
#define DENSE_WIDTH 8 /* least outputs in a line of a map of spikes for which multiplying is made ready */
#endif

/* For windows all of whose inputs are multiplied: see events_dense.h. Sizes count cells. */
struct ecc_dense {
    uint64_t weight;         /* of each line of a window's cells, four bytes at a time: the row's weights; 0: none */
    uint64_t cells;          /* inputs of all steps with their borders */
    uint64_t line, step;
    uint64_t still;          /* int32 (height, width, row): sums of a still frame */
    uint32_t position;       /* cells of a position of the map */
    uint32_t groups;         /* of CELLS cells, four bytes, in a line of a window */
};

struct ecc_node {
    uint32_t op, outputs, row; /* row: output channels, padded to whole vectors; bytes of a row of weights */
    int32_t input, leak, shift;
    struct ecc_synapses main, shortcut;
    struct ecc_map to;
    uint64_t bias, theta, gain, shortcut_gain, zeros; /* int32 (row) */
    uint64_t membrane;                         /* int32 (height, width, row) */
    uint64_t silent;                           /* spikes of all steps of a neuron that sees none */
    struct ecc_dense dense;
};

struct ecc_bytes { /* of every byte: the numbers of its bits, and how many there are */
    uint8_t places[256][8], count[256];
};

#if defined(__SANITIZE_ADDRESS__)
#define ECC_GUARD 64 /* poisoned bytes behind every part of the arena, so that a sanitizer sees where parts end */
#define ECC_MAX_GUARDS (32 * ECC_MAX_LAYERS)
#else
#define ECC_GUARD 0
#define ECC_MAX_GUARDS 1
#endif

struct ecc_plan {
    uint64_t magic, bytes;
    struct {
        uint64_t from, to;
    } guard[ECC_MAX_GUARDS];
    uint32_t guards;
    uint32_t isa, steps, nodes, threads;
    struct ecc_map input;
    struct ecc_bytes byte;
    uint64_t lists[2], strips[2]; /* of events, for main and shortcut synapses; each thread's */
    uint64_t list_bytes[2];       /* of one thread's */
    struct ecc_node node[ECC_MAX_LAYERS];
};

#define ECC_PLAN_MAGIC 0x31746e6576656365u

/* A call of ecc_events_run. */
struct ecc_call {
    unsigned char *arena;
    const struct ecc_plan *plan;
    const uint8_t *input;
    uint32_t start, count;
    int still;       /* one frame for all steps */
    int32_t *sums;   /* of the readout */
    uint32_t thread; /* whose lists are used */
};

struct ecc_kernel {
    uint32_t lanes; /* sums of 16 bits in a vector */
    uint32_t cells; /* inputs that are multiplied at a time, each with its own weight: two or four */
    /* A layer with neurons, or the readout: what all threads need, and the output rows low to high - 1. `dense`, which
     * the one returns and the other takes: all inputs are multiplied. */
    int (*prepare)(const struct ecc_call *, const struct ecc_node *);
    void (*rows)(const struct ecc_call *, const struct ecc_node *, int dense, uint32_t low, uint32_t high);
    void (*silence)(const struct ecc_call *, const struct ecc_node *); /* fills node->silent */
    void (*add)(const int8_t *weights, uint32_t row, const uint32_t *events, size_t count, int32_t *sums);
};

#if defined(__x86_64__)
extern const struct ecc_kernel ecc_kernel_avx512vnni, ecc_kernel_avx512, ecc_kernel_avx2;
#if (defined(__clang__) ? __clang_major__ >= 19 : __GNUC__ >= 11)
#define ECC_HAS_AVXVNNI 1
extern const struct ecc_kernel ecc_kernel_avxvnni;
#endif
#endif
extern const struct ecc_kernel ecc_kernel_baseline;

const struct ecc_kernel *ecc_kernel_of(uint32_t isa);

/* Threads that share the rows of layers, one call at a time: events_team.c. */
uint32_t ecc_team_gather(uint32_t threads); /* how many there are, with the caller; 1: nobody else has time */
void ecc_team_rows(const struct ecc_call *call, const struct ecc_node *node, int dense); /* among all of these */
void ecc_team_dismiss(void);

static inline int32_t *ecc_numbers(const struct ecc_call *call, uint64_t place)
{
    return (int32_t *)(void *)(call->arena + place);
}

/* The frame that a layer reads: the caller's, or what a pool made of it. */
static inline const uint8_t *ecc_frame(const struct ecc_call *call, const struct ecc_node *node)
{
    return node->input < 0 ? call->input : call->arena + node->main.from.bits;
}

/* Places of a list that holds all events of one row of a map. */
static inline uint64_t ecc_list_places(const struct ecc_synapses *s)
{
    return (uint64_t)s->from.width * s->from.channels * s->from.pool * s->from.pool + ECC_SLACK;
}

#endif
