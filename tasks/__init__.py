"""One file a DVC stage, plus the few services that stages share. A stage never imports another stage."""
