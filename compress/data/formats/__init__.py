"""What other programs write, read as lists of entries: NeMo manifests, Kaldi folders, lhotse cuts, Shar, tars."""
