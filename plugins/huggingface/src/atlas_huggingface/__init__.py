"""Language models as targets: Hugging Face folders and hub ids, safetensors and GGUF files; text stimuli."""
