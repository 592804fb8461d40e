"""Instructions and their columns, and the sizes that programs and machine agree on."""

LANES = 16
"""Inputs z of a block: two vectors of float64, one of float32, with AVX-512."""
CHUNK = 6144
"""Entries that an activation takes at a time, so that its scratch stays in the first-level cache."""

GRAM, WINDOW, AFFINE, RELU, SUM, REDUCE, MEAN, NORMALISE, ZERO, LOAD, SCALE = range(11)
SEED, FILL, AFFINE_T, WINDOW_T, RELU_T, NORMALISE_T, GRAM_T, LOAD_T = range(11, 19)
"""Operations, and their transposed forms for gradients; what the columns mean for each stands in `program`."""

(
    OP,
    DST,
    SRC,
    SRC2,
    H,
    W,
    IN_H,
    IN_W,
    KH,
    KW,
    SY,
    SX,
    STRIDE_Y,
    STRIDE_X,
    DIL_Y,
    DIL_X,
    ADD,
    SAME,
    MX,
    MZ,
    ROW,
    STEP,
    EXACT,
    COLUMNS,
) = range(24)
"""Columns of an instruction. Places are counted in positions; a map at place p starts at element p * LANES."""
