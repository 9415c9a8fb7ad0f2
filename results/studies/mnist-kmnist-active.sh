# Active learning for two and four small networks on MNIST and 10,000 images of KMNIST, 500 to 3,000 labels.
# needs: MNIST's four files, unpacked as torchvision does; KMNIST10K, an npz of 7,000 + 3,000 images
# takes: 25 hours on one core, 6 of them for the two networks. MODELS and METHODS name fewer
mnist=${MNIST:-mnist} kmnist=${KMNIST10K:-datasets/kmnist10k.npz}
need_data "$mnist" MNIST
if [ "$mnist" = mnist ]; then
  for file in {train,t10k}-{images-idx3,labels-idx1}-ubyte; do
    need "$data_root/MNIST/raw/$file" "set DATA_ROOT to the folder of torchvision's MNIST, unpacked"
  done
fi
need "$kmnist" "set KMNIST10K to an npz of KMNIST's test file, 7,000 images as train, 3,000 as test"

labels=(INITIAL=500 BATCH=250 ROUNDS=10)
if [ "${FAST:-0}" = 1 ]; then labels=(INITIAL=60 BATCH=20 ROUNDS=2); fi
# METHODS and TARGETS are those of runs/iter_all.sh; GPU is its first argument, cpu if not given. Of two
# networks the committee is the cascade itself, LeNet-5 and `convnet` at 14 px.
for models in ${MODELS:-2 4}; do
  env "${labels[@]}" DATASETS="$mnist $kmnist" SEEDS="${seeds[*]}" \
    TARGETS="${TARGETS:-active_learning/small-targets.json}" STUDY="--data_root $data_root" \
    METHODS="${METHODS:-random released entropy margin coreset CAL DIAM risk}" \
    EXTRA="--batch_size 32 --lr 0.02 --crop_scale 0.6 1 ${EXTRA:-}" \
    CASCADE="--cost_1 1 --cost_e 0.05" bash runs/iter_all.sh "${GPU:-cpu}" "$models" "$run"
done
files=("*-methods.json") predictions=()
tables=(mnist-kmnist-active)
