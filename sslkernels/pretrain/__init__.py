"""The example trainer: one loop, one short recipe a paper, one command (`python -m sslkernels.pretrain`)."""
