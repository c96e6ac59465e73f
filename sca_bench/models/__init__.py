"""SCA built from injected parts: SAM, feature mixer, text decoder, and their assembly."""
