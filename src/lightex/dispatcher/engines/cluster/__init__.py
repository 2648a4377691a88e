"""What the Kubernetes engine is made of: options, manifests, the API, watches, ends, and what travels by s3."""
