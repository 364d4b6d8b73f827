"""What preparation does when it is killed, when the disk is full, and with damaged photos: `python -m tests.faults`."""
