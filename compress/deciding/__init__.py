"""Everything that answers "what stays?": gates and their budget, scores, and the Structure they lead to, baselines."""
