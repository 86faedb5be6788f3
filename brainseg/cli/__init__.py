"""What all commands share: parsers, exit codes, masked errors, and checks of where output goes."""
