"""Speed and quality beside peers, measured in one run on one machine. Not tests: nothing here decides a build."""
