"""How the notebooks are made, checked and executed; the commands are in notebooks/build.py."""
