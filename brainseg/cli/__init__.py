"""What all commands share.

command.py   the one wrapper of every `__main__`: parser, exit codes, masked errors
options.py   options that several commands have
secrets.py   passwords are hidden in what is printed and in command lines
output.py    files and folders that a command writes: checked first, never half-written
console.py   tables and progress on a terminal, plain lines elsewhere
"""
