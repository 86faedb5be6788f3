"""The former name of `brainseg.register.serving`, as registered models of version 0.1 know it."""
