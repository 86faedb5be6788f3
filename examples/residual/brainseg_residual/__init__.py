"""A U-Net of residual blocks and the logarithm of Dice, for brainseg."""
