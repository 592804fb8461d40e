"""Instructions and their columns, and the sizes that programs and machine agree on."""

LANES = 16
"""Inputs z of a block: with AVX-512 two registers of float64, or one of float32."""
NUMBERS = 5
"""Constants of an instruction."""

GRAM, WINDOW, AFFINE, RELU, SUM, REDUCE, MEAN, NORMALISE, ZERO, LOAD, SCALE, ZONAL = range(12)
SEED, FILL, AFFINE_T, WINDOW_T, BOX_T, RELU_T, NORMALISE_T, GRAM_T, LOAD_T, ZONAL_T = range(12, 22)
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
    FUSED,
    COLUMNS,
) = range(25)
"""Columns of an instruction. Places are counted in positions; a map at place p starts at element p * LANES."""
