"""Why a figure is missing, in the words that several results share: `RowKind.say` fills their nouns in."""

ALL_ZERO = "all {gradients} are zero"
NO_SERIES = "no per-step series: write the analysis with --format json"
