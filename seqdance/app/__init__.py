"""The web page of `seqdance app`: one protein, its predicted dynamics, mutations, exchange and structure."""
