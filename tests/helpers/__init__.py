"""What tests of several folders share; fixtures stand in the `conftest.py` files."""
