"""The networks of the paper (Sec. 3.2, Table 2), one file each."""
