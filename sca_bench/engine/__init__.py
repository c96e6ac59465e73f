"""The one train and evaluation loop; the only room that touches mmengine and mlflow."""
