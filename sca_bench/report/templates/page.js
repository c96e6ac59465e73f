(function () {
  "use strict";
  var seed = document.getElementById("seed-choice");
  var group = document.getElementById("group-choice");
  function show() {
    document.querySelectorAll(".said").forEach(function (row) {
      row.hidden = row.dataset.seed !== seed.value;
    });
    document.querySelectorAll(".card").forEach(function (card) {
      card.hidden = group.value !== "" ? card.dataset.group !== group.value : false;
    });
  }
  if (seed) {
    seed.addEventListener("change", show);
    group.addEventListener("change", show);
    show(); // a browser may restore an earlier choice on reload
  }
})();
