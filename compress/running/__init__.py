"""Running in part: at one of several sizes, and without the frames that hold only blank.

Skipping (Hou et al. 2023, arXiv 2401.02046): the first blocks always run. An intermediate CTC output behind them tells
which frames are blank; only the others go on, gathered into shorter sequences, and are put back afterwards.

Each of the two is an aspect (`aspect.py` has the verbs, `aspects.py` the list). Everything here travels with
checkpoints (see `compress.model.modelling_file`) and imports only what they need.
"""
