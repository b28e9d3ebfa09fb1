"""The clients of Gradio, unmodified, against its server and against ours."""
