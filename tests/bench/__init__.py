"""Measurements on lab hosts, by `script/bench`; nothing here is a test."""
