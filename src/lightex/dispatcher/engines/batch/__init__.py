"""Parts of the slurm engine, one concept each."""
