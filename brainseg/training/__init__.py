"""The former name of `brainseg.train`."""
