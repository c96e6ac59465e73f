"""What files of others hold, read in one way each: pictures, masks, texts and ids. No torch."""
