"""How a process of ours starts, is interrupted, and reports what nobody foresaw. Knows no command and imports nothing heavy."""
