"""Adapters to other packages; each module imports the package it is named after."""
