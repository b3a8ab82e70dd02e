"""Layer skipping triggered by the CTC blank (Hou et al. 2023, arXiv 2401.02046): blank frames pass the last blocks by.

The first blocks always run. An intermediate CTC output behind them tells which frames are blank; only the others go on,
gathered into shorter sequences, and are put back afterwards. What a loaded checkpoint needs for that (`settings`,
`frames`, `heads`, `skipper`) travels with checkpoints (see `compress.modelling_file`) and imports only what they need.
"""
